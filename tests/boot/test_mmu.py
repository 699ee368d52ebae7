# SPDX-License-Identifier: Apache-2.0
"""The page walker against the processor's own: random tables in each paging mode, told beforehand, then tried."""
import os
import re

import pytest
from harness import BUILD, Bochs

GOOD = "exit port 0xf4 value 42"
MODES = ["32-bit", "32-bit PSE", "PAE", "PAE NX", "AMD64", "AMD64 NX"]


def run(boot, cases, seeds, more="", **options):
    """A machine for each seed, all at once, with so many cases in each mode; returns [{mode: {outcome: count}}]."""
    quirks = " bochs" if boot.machine_class is Bochs else " qemu"
    text = "[host]\nwhen_idle = poweroff\n"
    for seed in seeds:
        text += (f"[vm s{seed}]\nkernel = mmu.elf\nmemory = 48M\ntest_ports = on\nweight = 10\n"
                 f"cmdline = cases={cases} seed={seed}{quirks}\n{more}")
    machine = boot(text, {"mmu.elf": os.path.join(BUILD, "guests/mmu.elf")}, **options)
    found = []
    machine.wait_end()
    for seed in seeds:
        said = machine.monitor.console_of(f"s{seed}")
        assert f"vm s{seed}: stopped ({GOOD})" in machine.text, "\n".join(said)
        modes = {}
        for line in said:
            if match := re.fullmatch(r"(.*): (\d+) cases, (.*)", line):
                modes[match[1]] = {name: int(count) for count, name in re.findall(r"(\d+) ([^,]+)", match[3])}
                assert int(match[2]) >= cases, line
        assert set(MODES) <= set(modes), said
        found.append(modes)
    return found


def test_mmu(boot):
    """10,000 random cases in each mode, by two machines that take turns on one processor."""
    seed = int(os.environ.get("QUIRE_SEED", 1))
    run(boot, int(os.environ.get("QUIRE_MMU_CASES", 5000)), (seed, seed + 1))


@pytest.mark.only_vendor("vmx", reason="QEMU's processor has protection keys in the case above")
def test_mmu_keys(boot):
    """A processor with VMX and protection keys."""
    for found in run(boot, 2000, (3, 4), bochs={"model": "icelake"}):
        assert all(found[mode]["key"] for mode in ("AMD64", "AMD64 NX")), found


@pytest.mark.slow
@pytest.mark.only_vendor("vmx", reason="Bochs' models")
@pytest.mark.parametrize("model", ["sandy_bridge", "haswell", "zambezi"])
def test_mmu_models(boot, model):
    """Processors without SMEP, SMAP, 1 GiB pages, accessed bits at the second level; AMD's; 4 KiB pages below."""
    run(boot, 10000, (5,), "large_pages = off\n", bochs={"model": model})


@pytest.mark.slow
@pytest.mark.only_vendor("svm", reason="a model of QEMU's")
def test_mmu_epyc(boot):
    """An AMD processor without 5 levels and protection keys; 4 KiB pages below."""
    run(boot, 10000, (6,), "large_pages = off\n", qemu={"cpu": "EPYC"})
