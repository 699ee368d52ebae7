# SPDX-License-Identifier: Apache-2.0
"""Bochs' files for a machine that boots an image by OVMF, with COM1 on a pseudo terminal.

Everything is counted in ticks (instructions), so that a run repeats exactly: the time limit too.
Debian's build is a debugger build: it starts from a command file. Bochs locks its disk image,
so each run needs a copy of its own.
"""
import os

OVMF = "/usr/share/ovmf/OVMF.fd"
SLIM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/OVMF-slim.fd")  # tools/repack-ovmf's
VGA_BIOS = "/usr/share/bochs/VGABIOS-lgpl-latest"
MODELS = {
    "skylake_x": "corei7_skylake_x", "haswell": "corei7_haswell_4770", "icelake": "corei7_icelake_u",
    "tigerlake": "tigerlake", "sandy_bridge": "corei7_sandy_bridge_2600k", "zambezi": "zambezi", "ryzen": "ryzen",
}
AMD = ("zambezi", "ryzen")
MEMORY_MAX = 1024  # MiB: start-up grows with the square, and above 3 GiB a piece is lost
TICK_LIMIT = 10 ** 12  # hours; what is faster is ended by the time limits of its test

# Fields: MSR, type, reset value (low, high), reserved bits, ignored bits. The one line lets Intel
# models take IA32_PLATFORM_ID, and makes all other unknown MSRs fault as they should.
MSRS = "0x017 0 0 0 FFFFFFFF FFFFFFFF 0 0\n"

TEMPLATE = """\
plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, serial=1, iodebug=0
display_library: rfb, options="timeout=0"
memory: guest={memory}, host={memory}
romimage: file={firmware}
vgaromimage: file={vga_bios}
cpu: model={model}, count={cpus}, ips={ips}, quantum=16, reset_on_triple_fault=0, ignore_bad_msrs={ignore}{msrs}
clock: sync=none, time0=946684800
pci: enabled=1, chipset=i440fx
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path={image}, mode=flat
boot: disk
com1: enabled=1, mode=term, dev={terminal}
port_e9_hack: enabled=1
magic_break: enabled=1
log: {log}
debugger_log: -
panic: action={panic}
error: action=ignore
info: action=ignore
debug: action=ignore
"""


def prepare(folder, image, terminal, *, memory=512, cpus=1, model="skylake_x", firmware=None, ticks=TICK_LIMIT,
            panic="fatal", ignore_bad_msrs=False, ips=40000000):
    """Writes Bochs' files into `folder`; returns the argument list. `ticks` ends the run.

    `ips`: instructions to a second of the machine's time; with few of them Linux' timer interrupts leave no time for
    anything else. `firmware`: without one, the slim one if it was made, for Bochs spends most of its time there.
    `ignore_bad_msrs`: unknown MSRs don't fault, as Debian's kernel needs while it has no exception table yet."""
    if memory > MEMORY_MAX:
        raise ValueError(f"Bochs: {memory} MiB of memory; at most {MEMORY_MAX}")
    if model not in MODELS:
        raise ValueError(f"Bochs: no model {model}; there are {', '.join(MODELS)}")
    firmware = firmware or (os.path.realpath(SLIM) if os.path.exists(SLIM) else OVMF)
    msrs = "" if model in AMD else f", msrs={folder}/msrs.def"
    files = {
        "bochsrc": TEMPLATE.format(memory=memory, cpus=cpus, model=MODELS[model], firmware=firmware, image=image,
                                   terminal=terminal, msrs=msrs, vga_bios=VGA_BIOS, log="/dev/null", panic=panic,
                                   ips=ips, ignore=int(ignore_bad_msrs)),
        "msrs.def": MSRS,
        "commands": f"sb {ticks}\nc\nq\n",
    }
    for name, text in files.items():
        with open(os.path.join(folder, name), "w", encoding="ascii") as stream:
            stream.write(text)
    return ["bochs", "-q", "-f", os.path.join(folder, "bochsrc"), "-rc", os.path.join(folder, "commands")]
