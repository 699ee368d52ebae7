# SPDX-License-Identifier: Apache-2.0
"""Linux' own tests of KVM (tools/fetch-selftests) in Quire's guest: each must give there what it gives on the bare emulator.

Many fail or skip on an emulated processor. So each runs on both, and what counts is the difference: a table says same, better or
worse. A run's limits are in the guest's time, which the emulators count in instructions.
"""
import os
import re

import bare
import pytest
from harness import ROOT, Bochs, Qemu, guests

# Two of the programs want KVM to have the TSC for its clock, as it has on the bare emulator; Quire offers its guests another, and only an
# invariant TSC, which QEMU lacks, would be preferred to it.
LINE = "console=ttyS0,115200 nokaslr mitigations=off panic=-1 quiet cryptomgr.notests init_on_alloc=0 clocksource=tsc"
MODULES = {"svm": "kvm_amd", "vmx": "kvm_intel"}
EMULATORS = {"svm": Qemu, "vmx": Bochs}
COUNTED = {"svm": {"icount": 1}, "vmx": {}}
# MiB of Linux: one of them makes 32,764 memory slots, which take much without nested paging; Bochs has 1 GiB for all.
MEMORY = {"svm": 2048, "vmx": 512}
LIMIT = 40    # of the guest's seconds for each
GUARD = 7200
# What needs less than it takes by itself, in memory or rounds.
ARGUMENTS = {
    "access_tracking_perf_test": "-b 16M", "demand_paging_test": "-b 16M", "dirty_log_perf_test": "-b 16M -i 2",
    "kvm_page_table_test": "-b 16M", "memslot_modification_stress_test": "-b 16M -i 50", "xapic_ipi_test": "-s 2",
    "nx_huge_pages_test": "-p 100 -t 887563923 -r",
}
# Left out: the children of the first outlive it and spin; the others take more than 1 GiB, whatever they are told.
LEFT_OUT = ["hardware_disable_test", "dirty_log_test", "memslot_perf_test"]
# Bochs is slow: what says most of VMX. (Its preemption timer test takes 3,200,000,000 instructions.)
CHOSEN = {"vmx": [
    "vmx_apic_access_test", "vmx_close_while_nested_test", "vmx_dirty_log_test", "vmx_exception_with_invalid_guest_state",
    "vmx_invalid_nested_guest_state", "vmx_msrs_test", "vmx_nested_tsc_scaling_test",
    "vmx_set_nested_state_test", "vmx_tsc_adjust_test", "nested_exceptions_test", "state_test", "triple_fault_event_test",
    "debug_regs", "sync_regs_test"]}
PASS, SKIP = 0, 4


def programs(vendor):
    """The paths of those to run, by name."""
    folder = guests.selftests()
    there = sorted(name for name in os.listdir(folder) if name[0] != "." and name not in LEFT_OUT)
    only = os.environ.get("QUIRE_SELFTESTS", "").split() or CHOSEN.get(vendor, there)
    return {name: os.path.join(folder, name) for name in only if name in there}


def initramfs(folder, vendor, paths):
    """Linux with KVM and the programs, and the list of them."""
    with open(os.path.join(folder, "list"), "w", encoding="ascii") as stream:
        stream.writelines(f"{LIMIT} {name} {ARGUMENTS.get(name, '')}\n" for name in paths)
    add = [word for name, path in paths.items() for word in ("--add", f"{path}:kvm/{name}")]
    return guests.initramfs("--modules", MODULES[vendor], *add, "--add", os.path.join(folder, "list") + ":list",
                            "--run", os.path.join(ROOT, "tests/linux/selftests.sh"), name=f"selftests-{vendor}.img")


def results(text):
    """{name: (exit code, last words)} from what Linux said."""
    found = re.findall(r"selftest: end (\S+) (\d+) ?([^\r\n]*)", text)
    return {name: (int(code), words.rstrip()) for name, code, words in found}


def on_bare(folder, linux, vendor, initrd, line):
    machine = bare.linux(folder, EMULATORS[vendor], linux, initrd, line, memory=MEMORY[vendor], **COUNTED[vendor])
    try:
        machine.expect("selftest: done", GUARD, refuse="Kernel panic")
        return results(machine.text)
    finally:
        machine.kill()


def on_quire(boot, linux, vendor, initrd, line):
    text = (f"[host]\nwhen_idle = monitor\n[vm l1]\nkernel = vmlinuz\ninitrd = initrd.img\nmemory = {MEMORY[vendor]}M\nnested = on\n"
            f"cmdline = {line}\n")
    machine = boot(text, {"vmlinuz": linux["vmlinuz"], "initrd.img": initrd}, memory=MEMORY[vendor] + 450,
                   **{"svm": {"qemu": COUNTED["svm"]}, "vmx": {"bochs": {"ticks": 10 ** 12}}}[vendor])
    machine.monitor.wait_guest_line("l1", "selftest: done", GUARD)
    assert machine.monitor.wait_stopped("l1") == "poweroff"
    machine.monitor.wait_prompt()
    assert machine.monitor.command("check") == ["check: 0 findings"]
    return results("\n".join(machine.monitor.console_of("l1")))


def rank(code):
    """How good an end is."""
    return {PASS: 2, SKIP: 1}.get(code, 0)


def judge(reference, found):
    """same, better, worse; or differs: it fails on both, elsewhere."""
    if rank(found[0]) != rank(reference[0]):
        return "better" if rank(found[0]) > rank(reference[0]) else "worse"
    plain = [re.sub(r"0x[0-9a-f]+|\d+", "N", words) for _, words in (reference, found)]
    return "same" if found[0] == PASS or (found[0] == reference[0] and plain[0] == plain[1]) else "differs"


def table(reference, found):
    """[(verdict, name, both ends)], the bad ones first."""
    lost = (-1, "no end")
    rows = [(judge(reference[name], found.get(name, lost)), name, reference[name], found.get(name, lost)) for name in reference]
    order = ["worse", "differs", "better", "same"]
    return sorted(rows, key=lambda row: (order.index(row[0]), row[1]))


def show(rows):
    for verdict, name, one, other in rows:
        print(f"{verdict:8} {name:40} bare {one[0]:3} {one[1]}")
        if verdict != "same":
            print(f"{'':49} Quire {other[0]:2} {other[1]}")
    print(", ".join(f"{sum(row[0] == verdict for row in rows)} {verdict}" for verdict in ("same", "better", "differs", "worse")))


@pytest.mark.slow
@pytest.mark.parametrize("paging", ["on", "off"])
def test_selftests(boot, folder, linux, vendor, paging):
    """No program ends worse than on the processor itself, with nested paging or without. QUIRE_SELFTESTS names some to run."""
    line = f"{LINE} paging={paging}"
    paths = programs(vendor)
    initrd = initramfs(folder, vendor, paths)
    reference = on_bare(folder, linux, vendor, initrd, line)
    assert list(reference) == list(paths)
    rows = table(reference, on_quire(boot, linux, vendor, initrd, line))
    show(rows)
    assert not [name for verdict, name, _, _ in rows if verdict == "worse"]


@pytest.mark.parametrize("reference, found, verdict", [
    ((0, "2 s"), (0, "3 s"), "same"), ((0, ""), (4, "no EPT"), "worse"), ((4, ""), (0, ""), "better"), ((4, ""), (254, ""), "worse"),
    ((254, "[a.c:5: x] at 0x1f"), (254, "[a.c:5: x] at 0x2e"), "same"), ((254, "[a.c:5: x]"), (254, "[a.c:5: y]"), "differs"),
    ((254, ""), (137, ""), "differs"), ((0, ""), (-1, "no end"), "worse"),
])
def test_selftests_verdict(reference, found, verdict):
    """The table can tell."""
    assert judge(reference, found) == verdict
