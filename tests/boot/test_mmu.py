# SPDX-License-Identifier: Apache-2.0
"""The page walker against the processor's own: random tables in each paging mode, told beforehand, then tried."""
import os
import re

import pytest
from harness import BUILD, Bochs

GOOD = "exit port 0xf4 value 42"
MODES = ["32-bit", "32-bit PSE", "PAE", "PAE NX", "AMD64", "AMD64 NX"]


def run(boot, cases, seed, more="", **options):
    """One machine with so many cases in each mode; returns {mode: {outcome: count}}."""
    quirks = " bochs" if boot.machine_class is Bochs else " qemu"
    text = (f"[host]\nwhen_idle = poweroff\n[vm a]\nkernel = mmu.elf\nmemory = 48M\ntest_ports = on\n"
            f"cmdline = cases={cases} seed={seed}{quirks}\n{more}")
    machine = boot(text, {"mmu.elf": os.path.join(BUILD, "guests/mmu.elf")}, **options)
    ended = machine.monitor.wait_stopped("a")
    said = machine.monitor.console_of("a")
    assert ended == GOOD, "\n".join(said)
    found = {}
    for line in said:
        if match := re.fullmatch(r"(.*): (\d+) cases, (.*)", line):
            found[match[1]] = {name: int(count) for count, name in re.findall(r"(\d+) ([^,]+)", match[3])}
            found[match[1]]["cases"] = int(match[2])
    machine.wait_end()
    return said, found


def test_mmu(boot):
    """10,000 random cases in each mode."""
    said, found = run(boot, 10000, 1)
    assert set(MODES) <= set(found), said
    assert all(mode["cases"] >= 10000 for mode in found.values()), found


@pytest.mark.only_vendor("vmx", reason="QEMU's processor has protection keys in the case above")
def test_mmu_keys(boot):
    """A processor with VMX and protection keys."""
    said, found = run(boot, 4000, 2, bochs={"model": "icelake"})
    assert all(found[mode]["key"] for mode in ("AMD64", "AMD64 NX")), said


@pytest.mark.slow
@pytest.mark.parametrize("model", ["sandy_bridge", "haswell", "zambezi"])
def test_mmu_models(boot, model):
    """Processors without SMEP, SMAP, 1 GiB pages, accessed bits at the second level; Bochs' AMD; 4 KiB pages below."""
    run(boot, 10000, 3, "large_pages = off\n", bochs={"model": model}, qemu={"cpu": "EPYC"})
