# SPDX-License-Identifier: Apache-2.0
"""Builds the EFI programs of this folder: echo.c answers on the serial port as the monitor would, liar.c is bad firmware."""
import os
import subprocess

from harness import ROOT

FLAGS = ("-std=gnu11 -O2 -ffreestanding -fpic -fshort-wchar -mno-red-zone -fno-stack-protector -fcf-protection=none "
         "-maccumulate-outgoing-args -DGNU_EFI_USE_MS_ABI -Wall -Wextra -Werror "
         "-I/usr/include/efi -I/usr/include/efi/x86_64").split()
SECTIONS = ".text .sdata .data .rodata .dynamic .dynsym .rel .rela .rel.* .rela.* .reloc".split()


def build(folder, name="echo"):
    """Builds one of them into a folder; returns the program's path."""
    stem = os.path.join(folder, name)
    subprocess.run(["gcc", *FLAGS, "-c", os.path.join(ROOT, "tests/boot/selftest", name + ".c"), "-o", stem + ".o"],
                   check=True)
    subprocess.run(["ld", "-nostdlib", "-znocombreloc", "-T", "/usr/lib/elf_x86_64_efi.lds", "-shared", "-Bsymbolic",
                    "-znoexecstack", "--no-warn-rwx-segments", "/usr/lib/crt0-efi-x86_64.o", stem + ".o", "-L/usr/lib",
                    "-lgnuefi", "-lefi", "-o", stem + ".so"], check=True)
    subprocess.run(["objcopy", *(word for name in SECTIONS for word in ("-j", name)), "--target", "efi-app-x86_64",
                    "--subsystem=10", stem + ".so", stem + ".efi"], check=True)
    return stem + ".efi"
