# SPDX-License-Identifier: Apache-2.0
"""Xen as L1: it turns the processor's extension on when it starts, says what it found there, and comes to its dom0's shell."""
import os
import re

import bare
import pytest
from harness import Qemu, guests, image
from test_people import LONG, XEN, attach, section, start

MEMORY = 640
LINE = "com1=115200,8n1 console=com1 loglvl=info dom0_mem=384M"
DOM0 = "console=hvc0 quiet cryptomgr.notests"


@pytest.fixture
def xen(linux):
    """{name: path} of Xen, its dom0's kernel and initramfs."""
    packed = os.path.join(guests.debian("xen-hypervisor-4.17-amd64"), "boot/xen-4.17-amd64.gz")
    return {**linux, "vmlinuz": guests.kernel("linux-image-amd64"), "xen.elf": guests.unpacked(packed, "xen.elf")}


def features(text):
    """What Xen says of the extension, and of what it can do for guests."""
    found = re.findall(r"\(XEN\) (?:(?:HVM|SVM|VMX): |\s+- )([^\r\n]+)", text)
    return {line.strip() for line in found}


def on_bare(folder, xen, line):
    """Xen on the emulator itself, loaded by QEMU."""
    disk = os.path.join(folder, "bare.img")
    image.build(disk, xen["vmlinuz"], "", {})
    extra = ["-kernel", xen["xen.elf"], "-append", line, "-initrd", f"{xen['vmlinuz']} {DOM0},{xen['initrd.img']}"]
    machine = Qemu(os.path.join(folder, "bare"), disk, memory=MEMORY, firmware=bare.SEABIOS, extra=extra).start()
    try:
        machine.expect(guests.READY, LONG)
        return features(machine.text)
    finally:
        machine.kill()


@pytest.mark.slow
def test_xen_as_l1(boot, folder, vendor, xen):
    """All that it finds on the bare emulator is there in Quire, and its dom0 comes as far."""
    line = f"{LINE} {XEN[vendor]}"
    text = section("xen", "xen.elf", MEMORY, line, f"nested = on\nmodules = vmlinuz({DOM0}), initrd.img\n")
    machine = start(boot, text, xen, memory=960)
    attach(machine, "xen")
    machine.expect(guests.READY, LONG)
    machine.expect(guests.PROMPT, LONG)
    found = features(machine.text)
    assert f"{vendor.upper()} enabled" in found and "Hardware Assisted Paging (HAP) detected" in found, found
    if vendor == "svm":
        assert on_bare(folder, xen, line) <= found
