# SPDX-License-Identifier: Apache-2.0
"""The harness tests itself: a small EFI program answers on the serial port as the monitor would."""
import os
import struct
import subprocess
import zlib

import pytest
from harness import MachineEnded, TimedOut, config, guests, image

CONFIG = "[vm guest]\nkernel = folder/Some-Long-Kernel.name\n"


def test_talk(boot, echo, tmp_path):
    """Boots from an image on each emulator, answers in both modes, and ends by itself."""
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"k" * 123457)
    machine = boot(CONFIG, {"folder/Some-Long-Kernel.name": str(kernel)}, efi=echo, memory=256)
    monitor = machine.monitor.wait_prompt()
    assert monitor.command("cpu") == ["vmx=0 svm=1" if machine.vendor == "svm" else "vmx=1 svm=0"]
    assert monitor.command("say a b c") == ["a b c"]
    assert monitor.command("lines 3") == ["line"] * 3
    assert monitor.guest_lines == [("guest", "tick")] * 3
    assert monitor.console_of("guest") == ["tick"] * 3
    assert monitor.command("size quire.conf") == [str(len(CONFIG))]
    assert monitor.command("mode json") == ['{"ok": true, "bytes": 0}']
    assert monitor.json("size folder\\Some-Long-Kernel.name") == {"ok": True, "bytes": 123457}
    monitor.command("poweroff", prompt=False)
    assert monitor.wait_stopped("guest") == "poweroff"
    machine.wait_end()
    with pytest.raises(MachineEnded):
        machine.expect("more")


def test_guards(boot, echo):
    """A silent machine runs into the guard, not into a verdict; refused text is told."""
    machine = boot("", efi=echo, memory=256)
    monitor = machine.monitor.wait_prompt()
    machine.send("say well: panic: oh\r")
    with pytest.raises(AssertionError, match="came upon"):
        machine.expect("never comes", refuse="panic")
    machine.send("hang\r")
    with pytest.raises(TimedOut):
        machine.expect("never comes", timeout=1)
    assert "well" in machine.tail()
    machine.panic_expected = True
    assert monitor.machine.running()


@pytest.mark.only_vendor("vmx", reason="only Bochs counts ticks")
def test_tick_limit(boot, echo):
    """A run that doesn't end is ended by its deterministic limit."""
    machine = boot("", efi=echo, memory=256, ticks=450_000_000)
    machine.monitor.wait_prompt()
    machine.wait_end()
    assert machine.out_of_ticks


@pytest.mark.parametrize("options, found", [
    pytest.param({"qemu": {"cpu": "max,-svm", "icount": 7}, "bochs": {"model": "zambezi"}},
                 {"svm": "vmx=0 svm=0", "vmx": "vmx=0 svm=1"}, id="other"),
    pytest.param({"qemu": {"cpu": "EPYC"}, "bochs": {"model": "sandy_bridge"}, "cpus": 2},
                 {"svm": "vmx=0 svm=1", "vmx": "vmx=1 svm=0"}, id="poor"),
])
@pytest.mark.slow
def test_processors(boot, echo, vendor, options, found):
    """The emulators take other processors, several of them, and counted time."""
    machine = boot("", efi=echo, memory=1024, **options)
    assert machine.monitor.wait_prompt().command("cpu") == [found[vendor]]


@pytest.mark.only_vendor("svm", reason="QEMU can start Linux without a hypervisor's loader")
def test_linux_guest(machine_factory, linux, echo):
    """Debian's kernel and the initramfs that the guests get, on the bare emulator."""
    arguments = ["-kernel", linux["vmlinuz"], "-initrd", linux["initrd.img"],
                 "-append", "console=ttyS0,115200 quiet cryptomgr.notests"]
    machine = machine_factory.start(machine_factory.image("", efi=echo), qemu={"extra": arguments})
    machine.expect(guests.READY)
    machine.expect(guests.PROMPT)
    machine.send("echo $((6 * 7)) of $(tty)\r")
    machine.expect("^42 of /dev/ttyS0")
    machine.send("poweroff -f\r")
    machine.wait_end()


def test_image_names_missing_files(tmp_path):
    """An image without a file that its configuration names is refused, and the message says where."""
    with pytest.raises(image.ImageError, match=r"my.conf:2: \[vm guest\] kernel = folder/Some-Long-Kernel.name"):
        image.build(str(tmp_path / "x.img"), __file__, CONFIG, {}, "my.conf")
    assert not os.listdir(tmp_path)


def test_files_named():
    """The files that a configuration names, with comments, quotes and arguments in the way."""
    text = ('# kernel = no\n[host]\n[vm a] # first\nkernel = "b c" # d\ninitrd=x;y ; z\n'
            "modules = m1(a, (b) c), m2 m3\n kernel =\n")
    assert [(named.file, named.section, named.line) for named in config.files_named(text)] == [
        ("b c", "vm a", 4), ("x;y", "vm a", 5), ("m1", "vm a", 6), ("m2", "vm a", 6), ("m3", "vm a", 6)]


def test_image_structure(tmp_path):
    """Both partition tables agree and carry right checksums; the file system reads back what went in."""
    out = tmp_path / "x.img"
    image.build(str(out), __file__, "text", {"deep/er/a": __file__})
    disk = out.read_bytes()
    last = len(disk) // 512 - 1
    assert disk[510:512] == b"\x55\xaa" and disk[450] == 0xEE
    for this, other in ((1, last), (last, 1)):
        header = bytearray(disk[this * 512:this * 512 + 92])
        assert header[:8] == b"EFI PART"
        assert struct.unpack_from("<QQ", header, 24) == (this, other)
        table, count, size, table_crc = struct.unpack_from("<QIII", header, 72)
        entries = disk[table * 512:table * 512 + count * size]
        assert zlib.crc32(entries) == table_crc
        crc = struct.unpack_from("<I", header, 16)[0]
        header[16:20] = bytes(4)
        assert zlib.crc32(header) == crc
        first, end = struct.unpack_from("<QQ", entries, 32)
        low, high = struct.unpack_from("<QQ", bytes(header), 40)
        assert low <= first < end <= high < last
    read = subprocess.run(["mtype", "-i", f"{out}@@{first * 512}", "::/deep/er/a"], capture_output=True, check=True)
    with open(__file__, "rb") as stream:
        assert read.stdout == stream.read()
