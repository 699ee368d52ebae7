# SPDX-License-Identifier: Apache-2.0
"""Guests that come from Debian, fetched and made once; a lock keeps parallel cases apart."""
import contextlib
import fcntl
import glob
import gzip
import os
import re
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


def _tool(name, *arguments, environment=None):
    result = subprocess.run([os.path.join(ROOT, "tools", name), *arguments], capture_output=True, text=True, check=False,
                            env={**os.environ, **(environment or {})})
    assert result.returncode == 0, f"tools/{name}: {result.stderr}"


def initramfs(*arguments, name="initrd.img"):
    """Makes build/NAME with more arguments for tools/mkinitramfs; returns its path."""
    path = os.path.join(BUILD, name)
    with _alone():
        _tool("mkinitramfs", "--out", path, *arguments)
    return path


def programs(*paths):
    """Programs of this host with the libraries that they need, as {path on the host: path in an initramfs}."""
    files = {os.path.realpath("/lib64/ld-linux-x86-64.so.2"): "lib64/ld-linux-x86-64.so.2"}
    for path in paths:
        found = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        files.update((os.path.realpath(library), "lib/" + os.path.basename(library))
                     for library in re.findall(r"(/\S+) \(0x", found) if "ld-linux" not in library)
        files[path] = "bin/" + os.path.basename(path)
    return files


def additions(files):
    """The arguments of initramfs() for them."""
    return [word for path, name in files.items() for word in ("--add", f"{path}:{name}")]


def linux():
    with _alone():
        _tool("fetch-kernel")
        _tool("mkinitramfs", "--out", os.path.join(BUILD, "initrd.img"))
    return {"vmlinuz": os.path.join(BUILD, "linux/vmlinuz"), "initrd.img": os.path.join(BUILD, "initrd.img")}


APT_CONFIG = """APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
APT::Sandbox::User "root";
"""


def _foreign(arch):
    """apt's settings for another architecture's packages, with lists of its own; the host's stay as they are."""
    folder = os.path.join(BUILD, f"apt-{arch}")
    for part in ("lists/partial", "cache/archives/partial"):
        os.makedirs(os.path.join(folder, part), exist_ok=True)
    with open(os.path.join(folder, "status"), "a", encoding="ascii"):
        pass
    with open(os.path.join(folder, "apt.conf"), "w", encoding="ascii") as stream:
        stream.write(APT_CONFIG.format(arch=arch, folder=folder))
    return {"APT_CONFIG": os.path.join(folder, "apt.conf")}


def _newest(package, environment):
    """The package that a metapackage of Debian's kernels stands for; any other stands for itself."""
    command = ["apt-cache", "depends", package]
    said = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False).stdout
    found = re.search(r"Depends: (linux-image-\d\S*)", said)
    return found.group(1) if found else package


def debian(package, arch=None):
    """The folder with a Debian package's files, not installed. `arch`: not the host's."""
    environment = _foreign(arch) if arch else {}
    folder = os.path.join(BUILD, "packages", package)
    with _alone():
        name = _newest(package, environment)
        if arch and name == package and package.startswith("linux-image"):
            subprocess.run(["apt-get", "-q", "update"], env={**os.environ, **environment}, capture_output=True, check=False)
            name = _newest(package, environment)
        _tool("fetch-package", name, folder, environment=environment)
    return folder


def kernel(package, arch=None):
    """The kernel's image of a package of Debian's kernels."""
    found = glob.glob(os.path.join(debian(package, arch), "boot/vmlinuz-*"))
    assert len(found) == 1, found
    return found[0]


def unpacked(path, name):
    """build/NAME: a gzip file's content."""
    out = os.path.join(BUILD, name)
    with gzip.open(path) as packed, open(out, "wb") as plain:
        plain.write(packed.read())
    return out


def selftests():
    """The folder of Linux' own tests of KVM."""
    with _alone():
        _tool("fetch-selftests")
    return os.path.join(BUILD, "linux/selftests")


def memtest():
    with _alone():
        _tool("fetch-package", "memtest86+", os.path.join(BUILD, "memtest"))
    return os.path.join(BUILD, "memtest/boot/memtest86+x64.bin")
