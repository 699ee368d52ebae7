# SPDX-License-Identifier: Apache-2.0
"""Guests as people run them: Debian's kernels, installer and Xen, memtest86+, GNU Mach; and what a too small machine is told.

The packages are fetched unchanged and not installed. All but the last case are slow.
"""
import os
import re

import pytest
from harness import guests
from test_linux import LINE, LINES

KERNELS = {"full": ("linux-image-amd64", None), "rt": ("linux-image-rt-amd64", None), "686-pae": ("linux-image-686-pae", "i386")}
MANY = 12
# Bochs' time is counted, not slept through: the same limits for all.
LONG = 3000


def section(name, kernel, memory, line, more=""):
    return f"[vm {name}]\nkernel = {kernel}\nmemory = {memory}M\ncmdline = {line}\n{more}"


def start(boot, text, files, **options):
    """Boots it, with the machine's console on the terminal when its name is given."""
    machine = boot("[host]\nwhen_idle = monitor\n" + text, files, **options)
    machine.monitor.wait_prompt()
    return machine


def attach(machine, name):
    machine.monitor.command(f"console {name}", prompt=False)


def works(machine, pattern=guests.PROMPT):
    """A shell that calculates."""
    machine.send("\r")
    machine.expect(pattern, LONG)
    machine.send("echo $((6 * 7)) of $(uname -s)\r")
    machine.expect("^42 of Linux", 600)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KERNELS))
def test_debian_kernels(boot, vendor, linux, kind):
    """Debian's other kernels, unchanged, to a shell and off."""
    package, arch = KERNELS[kind]
    files = {**linux, "vmlinuz": guests.kernel(package, arch)}
    if arch:  # its programs, too
        busybox = os.path.join(guests.debian("busybox-static", arch), "bin/busybox")
        files["initrd.img"] = guests.initramfs("--busybox", busybox, name=f"initrd-{arch}.img")
    machine = start(boot, section("debian", "vmlinuz", 400, LINES[vendor], "initrd = initrd.img\n"), files, memory=768)
    if f"debian| {guests.READY}" not in machine.text:
        machine.monitor.wait_guest_line("debian", guests.READY, LONG)
    attach(machine, "debian")
    works(machine)
    machine.send("poweroff -f\r")
    assert machine.monitor.wait_stopped("debian", 600) == "poweroff"


@pytest.mark.slow
def test_installer(boot, vendor):
    """Debian's installer, from its network boot image, to its first dialog."""
    folder = os.path.join(guests.debian("debian-installer-12-netboot-amd64"),
                          "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64")
    files = {"linux": os.path.join(folder, "linux"), "initrd.gz": os.path.join(folder, "initrd.gz")}
    text = section("installer", "linux", 800, LINES[vendor], "initrd = initrd.gz\n")
    machine = start(boot, text, files, memory=1024)
    attach(machine, "installer")
    machine.expect(r"Select a language|Low memory mode", LONG)


# QEMU 7.2 reads the stack of an IRET at CPL 3 with the kernel's rights, so that SMAP refuses it: dom0's kernel does that.
XEN = {"svm": "smap=0", "kvm": "", "vmx": ""}


@pytest.mark.slow
def test_xen(boot, vendor, linux):
    """Xen with a Debian kernel as its dom0, to the dom0's shell."""
    image = guests.unpacked(os.path.join(guests.debian("xen-hypervisor-4.17-amd64"), "boot/xen-4.17-amd64.gz"), "xen.elf")
    text = section("xen", "xen.elf", 640, f"com1=115200,8n1 console=com1 dom0_mem=384M {XEN[vendor]}",
                   "modules = vmlinuz(console=hvc0 quiet cryptomgr.notests), initrd.img\n")
    files = {**linux, "vmlinuz": guests.kernel("linux-image-amd64"), "xen.elf": image}
    machine = start(boot, text, files, memory=960)
    attach(machine, "xen")
    machine.expect(guests.READY, LONG)
    machine.expect(guests.PROMPT, LONG)


@pytest.mark.slow
def test_gnu_mach(boot):
    """GNU Mach for i386, an ELF with a virtual entry: without its bootstrap modules it says so."""
    image = guests.unpacked(os.path.join(guests.debian("gnumach-image-1.8-486"), "boot/gnumach-1.8-486.gz"), "gnumach")
    machine = start(boot, section("mach", "gnumach", 64, "console=com0"), {"gnumach": image})
    if "No bootstrap code" not in machine.text:
        machine.expect("No bootstrap code loaded with the kernel", 600)


@pytest.mark.slow
@pytest.mark.only_vendor("svm", reason="Bochs has not got the memory for so many")
def test_many_on_one_processor(boot, linux):
    """Twelve machines on one host processor, which each sees a twelfth of: all find their timer, and reach a shell."""
    names = [f"guest{number}" for number in range(MANY)]
    text = "".join(section(name, "vmlinuz", 128, LINE, "initrd = initrd.img\ncpu = 0\n") for name in names)
    machine = start(boot, text, linux, memory=2560)
    for name in names:
        if f"{name}| {guests.READY}" not in machine.text:
            machine.monitor.wait_guest_line(name, guests.READY, LONG)
    for name in (names[0], names[-1]):
        attach(machine, name)
        works(machine)
    assert "Kernel panic" not in machine.text


@pytest.mark.slow
@pytest.mark.only_vendor("svm", reason="Intel's CPUID says the frequency, so that nobody measures it; and QEMU counts instructions")
def test_clock_measured_beside_another(boot, linux):
    """Kernels that share a host processor measure their time stamp counter by the PIT, and it comes out right: 1 GHz."""
    names = ("one", "other")
    text = "".join(section(name, "vmlinuz", 128, LINE.replace("quiet ", ""), "initrd = initrd.img\ncpu = 0\n") for name in names)
    machine = start(boot, text, linux, memory=768, qemu={"icount": 2})
    for name in names:
        if f"{name}| {guests.READY}" not in machine.text:
            machine.monitor.wait_guest_line(name, guests.READY, LONG)
        found = re.search(rf"{name}\| .*tsc: Detected (\d+)\.\d+ MHz", machine.text)
        assert found and 990 <= int(found.group(1)) <= 1010, machine.tail()


def test_too_little_memory(boot, linux):
    """A kernel that a machine is too small for isn't started, and it is said how much it needs."""
    machine = start(boot, section("small", "vmlinuz", 32, LINE), linux)
    assert re.search(r"^vm small: not started: vmlinuz needs \d\d MiB of memory to start, the machine has 32 MiB$",
                     machine.text, re.MULTILINE), machine.tail()
