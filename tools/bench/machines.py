# SPDX-License-Identifier: Apache-2.0
"""The benchmark's machines: three emulated processors, and how Quire or Linux KVM is started on each.

A run returns the text of its serial line; all that differs between emulators is here. Each
counts instructions: QEMU by -icount (time stamp counter >> SHIFT), Bochs by its time stamp counter itself.
"""
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build")
sys.path[:0] = [os.path.join(ROOT, "tools"), os.path.join(ROOT, "tests/boot")]
from harness import Bochs, Monitor, Qemu, firmware  # noqa: E402
from support import image  # noqa: E402

SHIFT = 7
MEMORY = 768  # MiB
KERNEL_LINE = "console=ttyS0,115200 nokaslr mitigations=off panic=-1 quiet cryptomgr.notests init_on_alloc=0"
BOCHS_LINE = KERNEL_LINE + " lpj=400000 no_timer_check tsc=reliable initrd=\\initrd.img"
SEABIOS = "/usr/share/seabios/bios-256k.bin"
FILLED = {"filled4k": 8, "filled2m": 18}  # modules: MiB that are there before the guest runs
CONFIG = """\
[host]
when_idle = monitor
[vm small]
kernel = bench.elf
modules = filled4k
memory = 128M
cpu = 0
large_pages = off
test_ports = on
autostart = off
cmdline = 4k
[vm large]
kernel = bench.elf
modules = filled2m
memory = 128M
cpu = 0
test_ports = on
autostart = off
cmdline = 2m
"""


class Target:
    """One emulated processor."""

    def __init__(self, name, title, machine_class, module, shift, **options):
        self.name, self.title, self.module, self.shift = name, title, module, shift
        self.machine_class, self.options = machine_class, options

    def start(self, folder, disk, **more):
        options = {"memory": MEMORY, "firmware": firmware.for_machine(self.machine_class), **self.options, **more}
        return self.machine_class(folder, disk, **options).start()


TARGETS = [
    Target("qemu-svm", "QEMU TCG, SVM", Qemu, "kvm_amd", SHIFT, icount=SHIFT),
    Target("bochs-vmx", "Bochs skylake_x, VMX", Bochs, "kvm_intel", 0),
    Target("bochs-svm", "Bochs zambezi, SVM", Bochs, "kvm_amd", 0, model="zambezi", ignore_bad_msrs=True),
]


def run_kvm(target, folder):
    """Boots Debian's kernel with KVM, runs the guest; returns what it printed."""
    os.makedirs(folder, exist_ok=True)
    initrd = os.path.join(folder, "initrd.img")
    _tool("fetch-kernel")
    _tool("mkinitramfs", "--modules", target.module, "--add", f"{BUILD}/bench/kvm:kvm",
          "--add", f"{BUILD}/guests/bench.elf:bench.elf", "--run", os.path.join(ROOT, "tools/bench/guest.sh"), "--out", initrd)
    kernel, disk = os.path.join(BUILD, "linux/vmlinuz"), os.path.join(folder, "kvm.img")
    if target.machine_class is Qemu:
        image.build(disk, kernel, "", {})  # QEMU starts the kernel itself; a disk is part of the machine
        machine = target.start(folder, disk, firmware=SEABIOS,
                               extra=["-kernel", kernel, "-initrd", initrd, "-append", KERNEL_LINE])
    else:
        line = os.path.join(folder, "cmdline")
        with open(line, "w", encoding="ascii") as stream:
            stream.write(BOCHS_LINE + "\n")
        image.build(disk, os.path.join(BUILD, "bench/linux_loader.efi"), "",
                    {"vmlinuz": kernel, "initrd.img": initrd, "cmdline": line})
        machine = target.start(folder, disk, ignore_bad_msrs=True)
    return _finish(machine, lambda: machine.expect("bench: done", 900, refuse="Kernel panic"))


def run_quire(target, folder):
    """Boots Quire, runs the guest in a machine with small pages and in one with large ones, one after the other."""
    os.makedirs(folder, exist_ok=True)
    files = {"bench.elf": os.path.join(BUILD, "guests/bench.elf")}
    for name, size in FILLED.items():
        files[name] = os.path.join(folder, name)
        with open(files[name], "wb") as stream:
            stream.write(b"\x5a" * (size << 20))
    disk = os.path.join(folder, "quire.img")
    image.build(disk, os.path.join(BUILD, "BOOTX64.EFI"), CONFIG, files)
    machine = target.start(folder, disk)

    def work():
        monitor = Monitor(machine).wait_prompt(600)
        for name in ("small", "large"):
            machine.send(f"vm start {name}\r")
            reason = monitor.wait_stopped(name, 600)
            if reason != "exit port 0xf4 value 42":
                raise RuntimeError(f"vm {name} stopped: {reason}\n{machine.tail()}")
    return _finish(machine, work)


def _finish(machine, work):
    try:
        work()
        return machine.text
    finally:
        machine.kill()


def _tool(name, *arguments):
    subprocess.run([os.path.join(ROOT, "tools", name), *arguments], check=True)
