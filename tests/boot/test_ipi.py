# SPDX-License-Identifier: Apache-2.0
"""Interrupts between a machine's processors, on one, two and four of the host's: none is lost, whatever kind it is of."""
import pytest

from test_guests import Case, config, files, judge, processors

LINES = ["ipi: flat, cluster and lines", "ipi: x2APIC"]
MILLIONS = 10_000_000
HOURS = 20_000


def case(rounds):
    return Case("ipi", "ipi", 16, f"rounds={rounds}", lines=[f"ipi: 4 processors asked {rounds} times each"] + LINES)


@pytest.mark.parametrize("cpus", (1, 2, pytest.param(4, marks=pytest.mark.slow)))
def test_ipi(boot, cpus):
    """Four vcpus ask each other into `sti; hlt`; then each kind of destination, NMIs, and a level line that each of them ends."""
    cases, (line, cpus) = [case(300)], processors(boot, cpus)
    judge(boot(config(cases, "cpus = 4\n" + line), files(cases), memory=256, cpus=cpus), cases)


@pytest.mark.slow
@pytest.mark.parametrize("cpus, rounds", ((1, MILLIONS // 4), (2, 20_000), (4, 20_000)))
def test_ipi_for_long(boot, cpus, rounds):
    """The same, ten million times on one processor; between several, a kick takes QEMU some milliseconds."""
    cases, (line, cpus) = [case(rounds)], processors(boot, cpus)
    machine = boot(config(cases, "cpus = 4\n" + line), files(cases), memory=256, cpus=cpus)
    machine.guard = HOURS
    judge(machine, cases)
