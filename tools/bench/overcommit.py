# SPDX-License-Identifier: Apache-2.0
"""The benchmark's parts about memory that machines share: four small guests, counted in instructions, and four of Debian's."""
import os
import re
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build")
sys.path.insert(0, os.path.join(ROOT, "tools"))
from harness import Qemu, guests, image  # noqa: E402
from quire import Quire, finish  # noqa: E402

SEABIOS = "/usr/share/seabios/bios-256k.bin"
FUSE_ROUNDS = 4  # monitor/command/fuse.c
HOST_MIB = 1152 # 1024 of guests, their tables, the hypervisor
SETTLED = 5  # seconds from a guest's prompt on
ICOUNT = 3  # guests whose time runs by the clock of a busy host do nothing but tick
QEMU = "/usr/bin/qemu-system-x86_64"
HOST_LINE = "console=ttyS0,115200 nokaslr mitigations=off panic=-1 quiet cryptomgr.notests init_on_alloc=0 no_timer_check"
NAMES = ("alpha", "beta", "gamma", "delta")
OVERCOMMIT = """\
[vm {name}]
kernel = overcommit.elf
memory = 128M
cpu = 0
large_pages = off
balloon = on
page_fusion = on
share_group = all
test_ports = on
autostart = off
cmdline = name={number}
"""
DEBIAN = """\
[vm {name}]
kernel = vmlinuz
initrd = initrd-pci.img
memory = 256M
balloon = on
page_fusion = on
share_group = all
autostart = off
cmdline = console=ttyS0,115200 nokaslr mitigations=off panic=-1 quiet cryptomgr.notests no_timer_check
"""


def _held(quire):
    answer = quire.ask("info chunks")
    return answer["private_pages"] + answer["shared_pages"]


def run_quire(target, folder):
    """Four machines, paused while equal pages are looked for; then each goes on, the first one alone at first."""
    disk = os.path.join(folder, "overcommit.img")
    config = "[host]\nwhen_idle = monitor\nfusion_rate = 0\n" + "".join(
        OVERCOMMIT.format(name=name, number=i + 1) for i, name in enumerate(NAMES))
    image.build(disk, os.path.join(BUILD, "release/BOOTX64.EFI"), config, {"overcommit.elf": f"{BUILD}/guests/overcommit.elf"})
    machine = target.start(folder, disk)
    quire = Quire(machine)

    def held(when, before):
        now, pages = quire.ask("info chunks"), _held(quire)
        if before:
            quire.row(f"held_{when}", pages - before[0], 1)
            quire.row(f"host_{when}", before[1] - now["free_pages"], 1)
        return pages, now["free_pages"]

    def work():
        quire.monitor.wait_prompt(600)
        empty = held("", None)
        for name in NAMES:
            quire.monitor.command(f"vm start {name}")
            quire.wait(rf"{name}\| turn fuse")
            quire.monitor.command(f"vm pause {name}")
        filled, _ = held("before", empty)
        found, again = quire.ask("fuse now"), quire.ask("fuse now")
        quire.row("fuse", found["ticks"] - found["idle_ticks"], found["freed_pages"])
        quire.row("look", again["ticks"] // FUSE_ROUNDS, filled - empty[0])
        held("after", empty)
        for name in NAMES:
            quire.monitor.command(f"vm resume {name}")
            quire.ask(f"type {name} g")
            quire.wait_good(name)
    rows = re.findall("row [^\n]*\n", finish(machine, work))
    return "".join(rows + quire.rows)


def _guest():
    """Debian's kernel, and a file system in memory with the balloon's driver."""
    return {"vmlinuz": guests.linux()["vmlinuz"],
            "initrd-pci.img": guests.initramfs("--modules", "virtio_pci", "virtio_balloon", name="initrd-pci.img")}


def debians_quire(target, folder):
    """Four of Debian's guests, one after the other, and what they hold; not by instructions, so that it doesn't take hours: on QEMU alone."""
    if target.machine_class is not Qemu:
        return ""
    disk = os.path.join(folder, "debians.img")
    image.build(disk, os.path.join(BUILD, "release/BOOTX64.EFI"), "[host]\nwhen_idle = monitor\nfusion_rate = 0\n" + "".join(
        DEBIAN.format(name=name) for name in NAMES), _guest())
    machine = Qemu(os.path.join(folder, "debians"), disk, memory=HOST_MIB, icount=ICOUNT).start()
    quire = Quire(machine)

    def work():
        quire.monitor.wait_prompt(600)
        empty = _held(quire)
        for name in NAMES:
            quire.monitor.command(f"vm start {name}")
            quire.wait(rf"{name}\| {guests.READY}")
            time.sleep(SETTLED)
            if name == NAMES[0]:
                quire.row("debian_one", _held(quire) - empty, 1)
        quire.row("debian_four", _held(quire) - empty, 1)
        quire.ask("fuse now")
        quire.row("debian_fused", _held(quire) - empty, 1)
    finish(machine, work)
    return "".join(quire.rows)


def debians_kvm(target, folder):
    """The same four under Debian's QEMU, with KVM, on Debian's kernel."""
    if target.machine_class is not Qemu:
        return ""
    files = {**guests.programs(QEMU), SEABIOS: "share/bios-256k.bin", **{f"/usr/share/qemu/{name}": f"share/{name}" for name in (
        "kvmvapic.bin", "linuxboot_dma.bin")}, **{path: name for name, path in _guest().items()}}
    initrd = guests.initramfs("--modules", target.module, *guests.additions(files), "--run",
                              os.path.join(ROOT, "tools/bench/debians.sh"), name="bench-debians.img")
    disk = os.path.join(folder, "debians.img")
    image.build(disk, guests.linux()["vmlinuz"], "", {})
    machine = Qemu(os.path.join(folder, "debians"), disk, memory=2 * HOST_MIB, icount=ICOUNT, firmware=SEABIOS, extra=[
        "-kernel", guests.linux()["vmlinuz"], "-initrd", initrd, "-append", HOST_LINE]).start()
    return finish(machine, lambda: machine.expect("bench: done", 3600, refuse="Kernel panic"))
