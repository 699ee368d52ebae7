# SPDX-License-Identifier: Apache-2.0
"""Hypervisors as guests, at length: the test hypervisor's L2s run 1,000,000,000 instructions while L1 changes their tables and the
host, from another processor, logs L1's writes in every way, zaps, splits and joins its pages. So do four L2s at once on four processors.

L1 holds every sum that its L2s read, every page and every dirty bit against what it expects; here the dirty log, the records and the
reverse map are. QUIRE_SOAK_MILLIONS makes it shorter or longer.
"""
import os
import re

import pytest
from harness import BUILD
from test_dirty import WAYS, log, pause, resume, verify_paused
from test_nested import GOOD, GUARD, quirks

MILLIONS = {"on": 1000, "off": 200}  # of L2's instructions, with large pages and without
CROWD = 200  # of four at once
PAGES = 34 << 20  # where tests/guests/hyper/case_chaos.c and case_crowd.c have the pages that its L2s share


def ended(machine):
    return re.search(r"vm l1: stopped \(([^\n]*)\)", machine.text)


def go_on(machine):
    """Until L1 tells of some more bursts of its L2s, or ends."""
    machine.position = len(machine.log)
    if not ended(machine):
        machine.expect(r"l1\| soak: burst|vm l1: stopped \(", GUARD)


def log_once(machine, way):
    """L2s run under the log; nothing that they wrote is missing. The machine stays paused."""
    monitor = machine.monitor
    log(monitor, "l1", "on", way)
    log(monitor, "l1", "verify")
    go_on(machine)
    seen = log(monitor, "l1", "verify")["pages"]
    pause(monitor, "l1")
    return seen + verify_paused(monitor, "l1")["pages"]


def zap_some(monitor, number):
    """Pages lose their translations, with all that was derived from them; at rest, as that command wants it."""
    for page in range(16):
        assert monitor.json(f"bench l1 {PAGES + (number * 16 + page) % 64 * 4096:#x}")["zap"] > 0


def counters(monitor, *names):
    return [row["value"] for name in names for row in monitor.json(f"stats l1/PGM/{name}")["stats"] if row["name"] == f"l1/PGM/{name}"]


def soak(boot, vendor, large, case, millions, place):
    """Contents, sums, dirty bits and the log hold to the end, `check` finds nothing, and all that was to disturb did happen."""
    millions = int(os.environ.get("QUIRE_SOAK_MILLIONS", millions))
    line = f"{quirks(boot.machine_class)} {case} millions={millions}"
    machine = boot(f"[vm l1]\nkernel = hyper.elf\nmemory = 64M\nnested = on\n{place}test_ports = on\nlarge_pages = {large}\ncmdline = {line}\n",
                   {"hyper.elf": os.path.join(BUILD, "guests/hyper.elf")}, cpus=2, bochs={"ticks": 10 ** 12})
    machine.monitor.wait_guest_line("l1", "physical bits")
    monitor = machine.monitor.wait_prompt()  # drawn anew behind it, and maybe for the first time
    monitor.command("mode json")
    rounds = seen = 0
    while not ended(machine):
        try:
            seen += log_once(machine, WAYS[vendor][rounds % len(WAYS[vendor])])
            zap_some(monitor, rounds)
            log(monitor, "l1", "off")
            split, joined, dropped = counters(monitor, "LargePage/Split", "LargePage/Reused", "Track/BlockDrops")
            assert monitor.json("check")["findings"] == 0
            resume(monitor, "l1")
            log(monitor, "l1", "toggle", "5", timeout=600)
            go_on(machine)
        except (AssertionError, KeyError):
            if not ended(machine):
                raise
            break
        rounds += 1
    said = monitor.console_of("l1")
    print(f"{rounds} rounds, {seen} pages logged, {split} blocks split, {joined} joined, {dropped} lost what was derived; {said[-3]}")
    assert ended(machine).group(1) == GOOD, said
    assert [int(found) for text in said for found in re.findall(r"^soak: (\d+) million", text)][0] >= millions
    assert rounds and seen and dropped
    assert split and joined or large == "off"


@pytest.mark.slow
@pytest.mark.parametrize("large", ["on", "off"])
def test_soak(boot, vendor, large):
    """One L2 at a time; the monitor has a processor of its own."""
    soak(boot, vendor, large, "soak", MILLIONS[large], "cpu = 1\n")


@pytest.mark.slow
@pytest.mark.parametrize("large", ["on", "off"])
def test_soak_of_four(boot, vendor, large):
    """Four vcpus, each with its L2, on two processors; two L2s use the same tables."""
    soak(boot, vendor, large, "crowd cpus=4", CROWD, "cpus = 4\n")
