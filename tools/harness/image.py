# SPDX-License-Identifier: Apache-2.0
"""Bootable disk images: one EFI system partition with Quire, its configuration and its files.

Needs mtools for the FAT file system, and no rights. A file's name on the image is the last part
of its path, unless `path:name` gives another.
"""
import os
import shutil
import subprocess

from . import config, gpt

MIB = 1 << 20
CLUSTER = 4096
NAME_MAX = 63  # bytes of a file's name in boot/boot_info.h


class ImageError(Exception):
    """What is wrong with the request, in words for the person who made it."""


def parse_file(argument):
    """'path' or 'path:name' -> (name on the image, path)."""
    path, colon, name = argument.rpartition(":")
    if not colon or os.path.exists(argument):
        path, name = argument, os.path.basename(argument)
    return name, path


def parse_files(arguments):
    """A list of 'path' and 'path:name' -> {name: path}."""
    files = {}
    for name, path in map(parse_file, arguments):
        if _key(name) in map(_key, (*files, "quire.conf", "EFI/BOOT/BOOTX64.EFI")):
            raise ImageError(f"{path}: there is a file {name} already (give another name by path:name)")
        files[name] = path
    return files


def check(config_text, files, config_name="quire.conf"):
    """Raises ImageError unless every file exists and every name in the configuration is among them."""
    problems = [f"{path}: no such file" for path in files.values() if not os.path.isfile(path)]
    problems += [f"{name}: longer than {NAME_MAX} characters" for name in files if len(name) > NAME_MAX]
    given = {_key(name) for name in files}
    for named in config.files_named(config_text):
        if _key(named.file) not in given:
            problems.append(f"{config_name}:{named.line}: [{named.section}] {named.key} = {named.file}: "
                            f"this file was not given (given: {', '.join(sorted(files)) or 'none'})")
    if problems:
        raise ImageError("\n".join(problems))


def build(out, efi, config_text, files, config_name="quire.conf", verify=True):
    """Writes the image `out`: `efi` as BOOTX64.EFI, the text as quire.conf, {name: path} files."""
    if verify:
        check(config_text, files, config_name)
    if not os.path.isfile(efi):
        raise ImageError(f"{efi}: no such file (build it with `make`)")
    sectors = _partition_sectors([os.path.getsize(path) for path in [efi, *files.values()]], len(config_text))
    head, tail = gpt.frame(sectors)
    partial = f"{out}.partial"
    with open(partial, "wb") as disk:
        disk.write(head)
        disk.truncate(len(head) + sectors * gpt.SECTOR)
        disk.seek(0, os.SEEK_END)
        disk.write(tail)
    try:
        _fill(f"{partial}@@{len(head)}", sectors, efi, config_text, files)
        os.replace(partial, out)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def _key(name):
    return name.replace("\\", "/").lstrip("/").lower()  # FAT knows no case


def _partition_sectors(sizes, config_size):
    # Each file in whole clusters, folders, two allocation tables, and room to edit the
    # configuration on the stick; never below what a FAT16 volume needs to be one.
    content = sum(-(-size // CLUSTER) * CLUSTER + 2 * CLUSTER for size in [*sizes, config_size])
    return -(-max(content + content // 256 + 2 * MIB, 20 * MIB) // MIB) * MIB // gpt.SECTOR


def _fill(volume, sectors, efi, config_text, files):
    fat = ["-F"] if sectors * gpt.SECTOR > 256 * MIB else []
    _mtools("mformat", "-i", volume, *fat, "-T", str(sectors), "-h", "64", "-s", "32", "-H", str(gpt.FIRST_SECTOR),
            "-c", str(CLUSTER // gpt.SECTOR), "-N", "51554952", "-v", "QUIRE", "::")
    folders = {"EFI", "EFI/BOOT"}
    for name in files:
        parts = name.replace("\\", "/").strip("/").split("/")[:-1]
        folders |= {"/".join(parts[:depth + 1]) for depth in range(len(parts))}
    _mtools("mmd", "-i", volume, *(f"::/{folder}" for folder in sorted(folders)))
    _mtools("mcopy", "-i", volume, efi, "::/EFI/BOOT/BOOTX64.EFI")
    _mtools("mcopy", "-i", volume, "-", "::/quire.conf", data=config_text.encode())
    for name, path in files.items():
        _mtools("mcopy", "-i", volume, path, "::/" + name.replace("\\", "/").lstrip("/"))


def _mtools(*command, data=None):
    if not shutil.which(command[0]):
        raise ImageError(f"{command[0]} is missing: run tools/setup")
    environment = dict(os.environ, MTOOLS_SKIP_CHECK="1", SOURCE_DATE_EPOCH="946684800")
    result = subprocess.run(command, input=data, stdin=None if data is not None else subprocess.DEVNULL,
                            capture_output=True, env=environment, check=False)
    if result.returncode:
        raise ImageError(f"{' '.join(command)}: {result.stderr.decode(errors='replace').strip()}")
