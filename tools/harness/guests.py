# SPDX-License-Identifier: Apache-2.0
"""Guests that come from Debian, fetched and made once; a lock keeps parallel cases apart."""
import contextlib
import fcntl
import os
import subprocess

from . import BUILD, ROOT

READY = r"quire-guest: ready"
PROMPT = r"guest# "


@contextlib.contextmanager
def _alone():
    os.makedirs(BUILD, exist_ok=True)
    with open(os.path.join(BUILD, "fetch.lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _tool(name, *arguments):
    result = subprocess.run([os.path.join(ROOT, "tools", name), *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"tools/{name}: {result.stderr}"


def initramfs(*arguments, name="initrd.img"):
    """Makes build/NAME with more arguments for tools/mkinitramfs; returns its path."""
    path = os.path.join(BUILD, name)
    with _alone():
        _tool("mkinitramfs", "--out", path, *arguments)
    return path


def linux():
    with _alone():
        _tool("fetch-kernel")
        _tool("mkinitramfs", "--out", os.path.join(BUILD, "initrd.img"))
    return {"vmlinuz": os.path.join(BUILD, "linux/vmlinuz"), "initrd.img": os.path.join(BUILD, "initrd.img")}


def memtest():
    with _alone():
        _tool("fetch-package", "memtest86+", os.path.join(BUILD, "memtest"))
    return os.path.join(BUILD, "memtest/boot/memtest86+x64.bin")
