# SPDX-License-Identifier: Apache-2.0
"""The benchmark's machines: three emulated processors, and how Quire or Linux KVM is started on each.

A run returns the text of its serial line; all that differs between emulators is here. Each
counts instructions: QEMU by -icount (time stamp counter >> SHIFT), Bochs by its time stamp counter itself.
"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build")
sys.path.insert(0, os.path.join(ROOT, "tools"))
from harness import Bochs, Qemu, image  # noqa: E402
import overcommit  # noqa: E402
from quire import Quire, finish  # noqa: E402

SHIFT = 7
MEMORY = 768  # MiB
LOGGED_PAGES = (64 << 20) // 4096
KERNEL_LINE = "console=ttyS0,115200 nokaslr mitigations=off panic=-1 quiet cryptomgr.notests init_on_alloc=0"
BOCHS_LINE = KERNEL_LINE + " lpj=400000 no_timer_check tsc=reliable initrd=\\initrd.img"
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
LOG_MACHINE = """\
[vm {name}]
kernel = bench.elf
memory = 128M
cpu = 0
large_pages = {large}
test_ports = on
autostart = off
cmdline = {size} log={way}
"""


NESTED = """\
[host]
when_idle = monitor
[vm nested]
kernel = hyper.elf
memory = 128M
cpu = 0
large_pages = off
nested = on
test_ports = on
cmdline = bench zap
"""
ZAPPED = 40 << 20  # tests/guests/hyper/case_bench.c
SMP = """\
[vm smp{cpus}]
kernel = bench.elf
memory = 128M
cpus = {cpus}
large_pages = off
test_ports = on
autostart = off
cmdline = smp={cpus} {more}
"""
PARTS = {"basic": "bench.elf", "nested": "hyper.elf", "smp": "bench.elf", "overcommit": "overcommit.elf", "debians": None}  # a part's small guest


class Target:
    """One emulated processor."""

    def __init__(self, name, title, machine_class, module, shift, ways, kvm_nests=True, **options):
        self.name, self.title, self.module, self.shift, self.kvm_nests = name, title, module, shift, kvm_nests
        self.ways = ways  # of the dirty log: wp write protection, ad dirty bits, pml the processor's list
        self.machine_class, self.options = machine_class, options

    def start(self, folder, disk, **more):
        options = {"memory": MEMORY, **self.options, **more}
        return self.machine_class(folder, disk, **options).start()


TARGETS = [
    Target("qemu-svm", "QEMU TCG, SVM", Qemu, "kvm_amd", SHIFT, ("wp", "ad"), icount=SHIFT),
    Target("bochs-vmx", "Bochs skylake_x, VMX", Bochs, "kvm_intel", 0, ("wp", "ad", "pml")),
    Target("bochs-svm", "Bochs zambezi, SVM", Bochs, "kvm_amd", 0, ("wp", "ad"), model="zambezi", ignore_bad_msrs=True,
           kvm_nests=False),  # Bochs stops with KVM as L0: an exception without resolution,
]


def run_kvm(target, folder, parts):
    """Boots Debian's kernel with KVM, runs the parts' guests; returns what they printed."""
    os.makedirs(folder, exist_ok=True)
    small = [part for part in parts if PARTS[part]]
    text = _kvm_small(target, folder, small) if small else ""
    return text + (overcommit.debians_kvm(target, folder) if len(small) < len(parts) else "")


def _kvm_small(target, folder, parts):
    """One boot for all parts of small guests."""
    initrd = os.path.join(folder, "initrd.img")
    _tool("fetch-kernel")
    mark = os.path.join(folder, "mark")  # an empty file with the part's name
    open(mark, "w", encoding="ascii").close()
    guests = [word for part in parts if part != "nested" or target.kvm_nests
              for word in ("--add", f"{BUILD}/guests/{PARTS[part]}:{PARTS[part]}", "--add", f"{mark}:{part}")]
    _tool("mkinitramfs", "--modules", target.module, "--add", f"{BUILD}/bench/kvm:kvm", "--add", f"{BUILD}/bench/ksm:ksm", *guests,
          "--run", os.path.join(ROOT, "tools/bench/guest.sh"), "--out", initrd)
    kernel, disk = os.path.join(BUILD, "linux/vmlinuz"), os.path.join(folder, "kvm.img")
    if target.machine_class is Qemu:
        image.build(disk, kernel, "", {})  # QEMU starts the kernel itself; a disk is part of the machine
        machine = target.start(folder, disk, firmware=overcommit.SEABIOS,
                               extra=["-kernel", kernel, "-initrd", initrd, "-append", KERNEL_LINE])
    else:
        line = os.path.join(folder, "cmdline")
        with open(line, "w", encoding="ascii") as stream:
            stream.write(BOCHS_LINE + "\n")
        image.build(disk, os.path.join(BUILD, "bench/linux_loader.efi"), "",
                    {"vmlinuz": kernel, "initrd.img": initrd, "cmdline": line})
        machine = target.start(folder, disk, ignore_bad_msrs=True)
    return finish(machine, lambda: machine.expect("bench: done", 900, refuse="Kernel panic"))


def run_quire(target, folder, parts):
    """What the parts' guests printed, each in a boot of its own, and rows for what the monitor measured."""
    os.makedirs(folder, exist_ok=True)
    run = {"basic": _quire_basic, "nested": _quire_nested, "smp": _quire_smp, "overcommit": overcommit.run_quire, "debians": overcommit.debians_quire}
    return "".join(run[part](target, folder) for part in parts)


def _quire_nested(target, folder):
    """One machine whose guest is a hypervisor, and asks for pages to be taken away."""
    disk = os.path.join(folder, "nested.img")
    image.build(disk, os.path.join(BUILD, "release/BOOTX64.EFI"), NESTED, {"hyper.elf": f"{BUILD}/guests/hyper.elf"})
    machine = target.start(folder, disk)
    quire = Quire(machine)

    def work():
        quire.monitor.wait_prompt(600)
        for shadows in (1, 4):
            quire.wait(rf"nested\| turn zap_{shadows}")
            quire.row(f"zap_{shadows}", quire.ask(f"bench nested {ZAPPED:#x}")["zap"], 1)
            quire.ask("type nested g")
        quire.wait_good("nested")
    rows = re.findall("row [^\n]*\n", finish(machine, work))  # not how long it took to boot
    return "".join(rows + quire.rows)


def _quire_smp(target, folder):
    """Machines of one, two and four processors, on one of the host's; where the emulator counts several by instructions, on four, too."""
    text = ""
    for hosts in (1, 4) if target.machine_class is Bochs else (1,):
        disk = os.path.join(folder, f"smp{hosts}.img")
        config = "[host]\nwhen_idle = monitor\n" + "".join(
            SMP.format(cpus=cpus, more="own" if hosts > 1 else "") for cpus in (1, 2, 4))
        image.build(disk, os.path.join(BUILD, "release/BOOTX64.EFI"), config, {"bench.elf": f"{BUILD}/guests/bench.elf"})
        machine = target.start(folder, disk, cpus=hosts)
        quire = Quire(machine)

        def work():
            quire.monitor.wait_prompt(600)
            for cpus in (1, 2, 4):
                quire.monitor.command(f"vm start smp{cpus}")
                quire.wait_good(f"smp{cpus}")
        rows = "".join(re.findall("row [^\n]*\n", finish(machine, work)))
        text += re.sub(r"row (ipi|smp)", r"row own_\1", rows) if hosts > 1 else rows
    return text


def _quire_basic(target, folder):
    """The guest in one machine after the other: small pages, large ones, each way of the dirty log."""
    files = {"bench.elf": os.path.join(BUILD, "guests/bench.elf")}
    for name, size in FILLED.items():
        files[name] = os.path.join(folder, name)
        with open(files[name], "wb") as stream:
            stream.write(b"\x5a" * (size << 20))
    logs = [(f"log{way}", "off", "4k", way) for way in target.ways] + [("split", "on", "2m", "wp")]
    config = CONFIG + "".join(LOG_MACHINE.format(name=n, large=l, size=s, way=w) for n, l, s, w in logs)
    disk = os.path.join(folder, "quire.img")
    image.build(disk, os.path.join(BUILD, "release/BOOTX64.EFI"), config, files)
    machine = target.start(folder, disk)
    quire = Quire(machine)

    def work():
        quire.monitor.wait_prompt(600)
        quire.wait_good("small")
        quire.monitor.command("vm start large")
        quire.wait_good("large")
        for name, _, size, way in logs:
            quire.log(name, size, way, LOGGED_PAGES)
    return finish(machine, work) + "".join(quire.rows)


def _tool(name, *arguments):
    subprocess.run([os.path.join(ROOT, "tools", name), *arguments], check=True)
