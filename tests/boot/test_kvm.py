# SPDX-License-Identifier: Apache-2.0
"""Quire under Linux KVM: what people get who start it by `qemu -accel kvm -cpu host`.

No machine of ours has KVM, but Linux KVM itself runs here: Debian's kernel on Bochs starts Debian's QEMU with KVM, which
boots OVMF and Quire, and Quire its guests. What KVM doesn't offer a guest hypervisor (VMCS fields, controls), or does otherwise than
the processor, is met with on the way.
"""
import os
import re
import subprocess

import pytest
from harness import BUILD, ROOT, Bochs, Monitor, guests, image

LINE = ("console=ttyS0,115200 nokaslr mitigations=off panic=-1 quiet cryptomgr.notests init_on_alloc=0 lpj=400000 no_timer_check "
        "tsc=reliable initrd=\\initrd.img\n")
GUEST_LINE = "console=ttyS0,115200 nokaslr mitigations=off panic=-1 quiet cryptomgr.notests"
# ips: on zambezi a tick of the PIT with its accesses must be short beside its period.
HOSTS = {"vmx": ("kvm_intel", {"model": "skylake_x"}), "svm": ("kvm_amd", {"model": "zambezi", "ips": 200000000})}
# Without hlt, whose NMI behind a single-step trap KVM delivers one instruction late on Bochs' VMX, and step on Bochs' SVM: a trap that
# stays pending over the exit (docs/testing.md) strikes KVM there.
SMALL = ["hello", "cpuid", "ports", "mmio", "msr", "pit", "apic_timer", "modes", "execdata", "smc", "registers"]
QEMU = "/usr/bin/qemu-system-x86_64"
GUARD = 3600


def qemu_files():
    """QEMU with its libraries and what it reads, as {path on the host: path in the initramfs}."""
    return {**guests.programs(QEMU), "/usr/share/ovmf/OVMF.fd": "share/OVMF.fd", "/usr/share/qemu/kvmvapic.bin": "share/kvmvapic.bin"}


def section(name, kernel, more):
    return f"[vm {name}]\nkernel = {kernel}\nautostart = off\n{more}"


def quire_image(folder, linux):
    """The disk that Quire is started from."""
    config = "[host]\nwhen_idle = monitor\n" + "".join(
        section(name, f"{name}.elf", "memory = 48M\ntest_ports = on\n") for name in SMALL)
    config += section("linux", "vmlinuz", f"initrd = initrd.img\nmemory = 160M\ncmdline = {GUEST_LINE}\n")
    files = {f"{name}.elf": f"{BUILD}/guests/{name}.elf" for name in SMALL}
    path = os.path.join(folder, "quire.img")
    image.build(path, os.path.join(BUILD, "BOOTX64.EFI"), config, {**files, **linux})
    return path


@pytest.fixture
def host(request, folder, linux):
    """Linux with KVM on Bochs, QEMU started in it; what comes over the line is Quire's."""
    module, options = HOSTS[request.param]
    subprocess.run(["make", "-s", "-C", ROOT, "build/bench/linux_loader.efi"], check=True)
    add = {**qemu_files(), quire_image(folder, linux): "quire.img"}
    initrd = guests.initramfs("--modules", module, *guests.additions(add),
                              "--run", os.path.join(ROOT, "tests/boot/kvm_host.sh"), name=f"kvm-{request.param}.img")
    line = os.path.join(folder, "cmdline")
    with open(line, "w", encoding="ascii") as stream:
        stream.write(LINE)
    disk = os.path.join(folder, "host.img")
    image.build(disk, os.path.join(BUILD, "bench/linux_loader.efi"), "",
                {"vmlinuz": linux["vmlinuz"], "initrd.img": initrd, "cmdline": line})
    machine = Bochs(os.path.join(folder, "host"), disk, memory=1024, ticks=10 ** 12, ignore_bad_msrs=True, **options).start()
    machine.monitor = Monitor(machine)
    yield machine
    machine.kill()


@pytest.mark.slow
@pytest.mark.parametrize("host", list(HOSTS), indirect=True)
def test_under_kvm(host):
    """Quire comes to its prompt, its small guests and a Linux do what they do elsewhere, and it ends cleanly."""
    host.expect("kvm-host|Quire ", GUARD)
    monitor = host.monitor.wait_prompt(GUARD)
    ends = {}
    for name in SMALL:
        monitor.command(f"vm start {name}", GUARD)
        ends[name] = monitor.wait_stopped(name, GUARD)
    monitor.command("vm start linux", GUARD)
    monitor.wait_guest_line("linux", guests.READY, GUARD)
    assert monitor.command("check", GUARD) == ["check: 0 findings"]
    monitor.command("poweroff", prompt=False, timeout=GUARD)
    host.expect("kvm-host: QEMU ended with 0", GUARD)
    assert not {name: end for name, end in ends.items() if end != "exit port 0xf4 value 42"}
