# SPDX-License-Identifier: Apache-2.0
"""The emulators without Quire: a small guest of tests/guests, or Debian's Linux, on the processor itself. What it says there is what it must say in Quire."""
import os
import struct
import subprocess

from harness import BUILD, ROOT, Bochs, Qemu, image

SEABIOS = "/usr/share/seabios/bios-256k.bin"
BOCHS_BIOS = "/usr/share/bochs/BIOS-bochs-latest"
BOCHS_LINE = " lpj=400000 no_timer_check tsc=reliable initrd=\\initrd.img"
MEMORY = 64  # MiB, of a small guest
CYLINDER = 16 * 63 * 512  # what Bochs' BIOS takes a disk to be made of
# The boot sector's words (disk_boot.asm): length in sectors, entry, KiB above 1 MiB; the command line's place.
WORDS, LINE_AT = 8, 20


def _disk(path, elf, line):
    """A disk with the boot sector and the guest behind it."""
    sector, flat = f"{path}.boot", f"{path}.flat"
    subprocess.run(["nasm", "-f", "bin", "-o", sector, os.path.join(ROOT, "tests/boot/disk_boot.asm")], check=True)
    subprocess.run(["objcopy", "-O", "binary", elf, flat], check=True)
    with open(sector, "rb") as stream:
        boot = bytearray(stream.read())
    with open(flat, "rb") as stream:
        content = stream.read()
    with open(elf, "rb") as stream:
        entry = struct.unpack_from("<I", stream.read(28), 24)[0]
    text = f"{os.path.basename(elf)} {line}".encode() + b"\0"
    at = struct.unpack_from("<I", boot, LINE_AT)[0] - 0x7C00
    assert at + len(text) <= 510, line
    struct.pack_into("<III", boot, WORDS, -(-len(content) // 512), entry, (MEMORY - 1) * 1024)
    boot[at:at + len(text)] = text
    with open(path, "wb") as stream:
        stream.write((bytes(boot) + content).ljust(4 * CYLINDER, b"\0"))


def guest(folder, machine_class, name, line, **options):
    """build/guests/NAME.elf on an emulator; ends with QEMU, and goes on for ever on Bochs."""
    elf, disk = os.path.join(BUILD, f"guests/{name}.elf"), os.path.join(folder, "bare.img")
    _disk(disk, elf, line)
    if machine_class is Qemu:
        options.setdefault("extra", ["-kernel", elf, "-append", line, "-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
        return Qemu(os.path.join(folder, "bare"), disk, memory=MEMORY, firmware=SEABIOS, **options).start()
    return Bochs(os.path.join(folder, "bare"), disk, memory=MEMORY, firmware=BOCHS_BIOS, **options).start()


def linux(folder, machine_class, files, initrd, line, **options):
    """Debian's kernel with an initramfs."""
    disk = os.path.join(folder, "bare.img")
    if machine_class is Qemu:
        image.build(disk, files["vmlinuz"], "", {})
        options["extra"] = ["-kernel", files["vmlinuz"], "-initrd", initrd, "-append", line]
        return Qemu(os.path.join(folder, "bare"), disk, firmware=SEABIOS, **options).start()
    subprocess.run(["make", "-s", "-C", ROOT, "build/bench/linux_loader.efi"], check=True)
    with open(os.path.join(folder, "cmdline"), "w", encoding="ascii") as stream:
        stream.write(line + BOCHS_LINE + "\n")
    image.build(disk, os.path.join(BUILD, "bench/linux_loader.efi"), "",
                {"vmlinuz": files["vmlinuz"], "initrd.img": initrd, "cmdline": os.path.join(folder, "cmdline")})
    return Bochs(os.path.join(folder, "bare"), disk, ticks=10 ** 12, ignore_bad_msrs=True, **options).start()
