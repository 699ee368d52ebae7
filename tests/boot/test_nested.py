# SPDX-License-Identifier: Apache-2.0
"""Hypervisors as guests: the test hypervisor (tests/guests/hyper) and Linux KVM in Quire, and what runs in them.

Each runs on the bare emulator too: what it gives there is what it must give in Quire.
"""
import os
import re
import subprocess

import bare
import pytest
from harness import BUILD, ROOT, Bochs, Qemu, guests

LINE = "console=ttyS0,115200 nokaslr mitigations=off panic=-1 quiet cryptomgr.notests init_on_alloc=0"
MODULES = {"svm": "kvm_amd", "vmx": "kvm_intel"}
EMULATORS = {"svm": Qemu, "vmx": Bochs}
GOOD = "exit port 0xf4 value 42"
GUARD = 1800
CASES = ["instructions", "events", "interrupts", "matrix", "stale", "chaos", "vmcs", "checks"]


def quirks(machine_class):
    return "bochs" if machine_class is Bochs else "qemu"


# -- the test hypervisor --

def bare_hyper(folder, machine_class, line, **options):
    """What the test hypervisor says on the emulator itself."""
    machine = bare.guest(folder, machine_class, "hyper", f"{quirks(machine_class)} {line}", **options)
    try:
        machine.expect("all checks passed|checks failed|EXCEPTION", 300)
        return [text.rstrip() for text in machine.text[machine.text.index("physical bits"):].splitlines() if text.strip()]
    finally:
        machine.kill()


def hyper_in_quire(boot, line, more="", **options):
    """What it says in Quire."""
    text = (f"[host]\nwhen_idle = monitor\n[vm hyper]\nkernel = hyper.elf\nmemory = 64M\nnested = on\ntest_ports = on\n"
            f"cmdline = {quirks(boot.machine_class)} {line}\n{more}")
    machine = boot(text, {"hyper.elf": os.path.join(BUILD, "guests/hyper.elf")}, **options)
    machine.ended = machine.monitor.wait_stopped("hyper", 600)
    machine.monitor.wait_prompt()
    return machine


def judge_hyper(machine):
    said = machine.monitor.console_of("hyper")
    assert machine.ended == GOOD, "\n".join(said)
    assert machine.monitor.command("check") == ["check: 0 findings"]


@pytest.mark.parametrize("case", CASES)
def test_hyper_bare(folder, vendor, case):
    """The test hypervisor's own checks hold on the processor."""
    said = bare_hyper(folder, EMULATORS[vendor], case)
    assert "all checks passed" in said, "\n".join(said)


@pytest.mark.parametrize("case", CASES)
def test_hyper(boot, case):
    """And in Quire."""
    judge_hyper(hyper_in_quire(boot, case))


@pytest.mark.parametrize("case", ["instructions", "events", "matrix", "checks"])
def test_hyper_says_the_same(boot, folder, case):
    """Every exit's numbers in Quire are the processor's own."""
    reference = bare_hyper(folder, boot.machine_class, case)
    machine = hyper_in_quire(boot, case)
    said = [text.rstrip() for text in machine.monitor.console_of("hyper") if text.strip()]
    assert said[1:] == reference[1:]


# -- Linux KVM --

def l1_initramfs(module):
    """Linux with KVM and the test program."""
    subprocess.run(["make", "-s", "-C", ROOT, "build/linux/kvmtest"], check=True)
    return guests.initramfs("--modules", module, "--add", os.path.join(BUILD, "linux/kvmtest") + ":kvmtest",
                            "--run", os.path.join(ROOT, "tests/linux/kvmtest.sh"), name=f"l1-{module}.img")


def judge_kvmtest(text, module):
    """Both runs, with nested paging and without, ended well."""
    paging = "ept" if module == "kvm_intel" else "npt"
    found = re.findall(r"kvmtest: begin (\S+) (\S+)=(\S)|kvmtest: status (\d+)", text)
    assert [(name, what, on) for name, what, on, _ in found if name] == [(module, paging, "Y"), (module, paging, "N")], text[-3000:]
    assert [status for *_, status in found if status] == ["0", "0"], text[-3000:]


@pytest.mark.slow
def test_kvm_bare(folder, linux, vendor):
    """The reference: KVM on the emulator itself. (Bochs' SVM stops at a triple fault of KVM's own.)"""
    module = MODULES[vendor]
    machine = bare.linux(folder, EMULATORS[vendor], linux, l1_initramfs(module), f"{LINE} kvmtest=100,2")
    try:
        machine.expect("kvmtest: done", GUARD, refuse="Kernel panic")
        judge_kvmtest(machine.text, module)
    finally:
        machine.kill()


def kvm_in_quire(boot, linux, rounds, more="", **options):
    """Linux with KVM in Quire, to its test's end; returns the machine."""
    module = MODULES[boot.machine_class.vendor]
    text = (f"[host]\nwhen_idle = monitor\n[vm l1]\nkernel = vmlinuz\ninitrd = initrd.img\nmemory = 200M\nnested = on\n{more}"
            f"cmdline = {LINE} kvmtest={rounds}\n")
    machine = boot(text, {"vmlinuz": linux["vmlinuz"], "initrd.img": l1_initramfs(module)}, memory=512, **options)
    machine.monitor.wait_guest_line("l1", "kvmtest: done", GUARD)
    assert machine.monitor.wait_stopped("l1") == "poweroff"
    judge_kvmtest("\n".join(machine.monitor.console_of("l1")), module)
    machine.monitor.wait_prompt()
    assert machine.monitor.command("check") == ["check: 0 findings"]
    return machine


def test_kvm(boot, linux):
    """A few rounds of KVM's guest in Quire's guest, with nested paging and without."""
    kvm_in_quire(boot, linux, "12,2")


@pytest.mark.slow
def test_kvm_rounds(boot, linux):
    """100 rounds."""
    kvm_in_quire(boot, linux, "100,2")
