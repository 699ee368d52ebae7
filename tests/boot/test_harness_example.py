# SPDX-License-Identifier: Apache-2.0
"""The example of docs/harness.md, as it stands there: on the emulators, and on a machine that is only a serial line.

That machine is an emulator, too, but the harness sees nothing of it but a pseudo terminal or a network port, and a command that
turns it on.
"""
import os
import re
import selectors
import shlex
import socket
import sys
import threading
import tty

import pytest
from harness import BUILD, ROOT, guard

EFI = os.path.join(BUILD, "BOOTX64.EFI")
POWER = """\
import os, sys
sys.path.insert(0, {tools!r})
from harness import bochs, qemu
folder, disk = sys.argv[1:]
command = {command}
os.execvp(command[0], command)
"""


@pytest.fixture
def example(folder):
    """The document's test in a file of its own."""
    with open(os.path.join(ROOT, "docs/harness.md"), encoding="utf-8") as stream:
        text, = re.findall(r"```python\n(.*?)```", stream.read(), re.S)
    path = os.path.join(folder, "test_mine.py")
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
    return path


def run(example, *options):
    folder = os.path.dirname(example)
    command = ["/usr/bin/python3", "-m", "pytest", "-p", "harness.plugin", "-p", "no:cacheprovider", "--rootdir", folder, *options,
               "--quire-output", os.path.join(folder, "output"), example]
    done = guard.run(command, 600, cwd=ROOT, env={**os.environ, "PYTHONPATH": os.path.join(ROOT, "tools")})
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


def power(folder, command):
    """The command that turns the machine on: a program that becomes the emulator."""
    path = os.path.join(folder, "power.py")
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(POWER.format(tools=os.path.join(ROOT, "tools"), command=command))
    return f"{shlex.quote(sys.executable)} {shlex.quote(path)} {shlex.quote(folder)} {{image}}"


class NullModem:
    """Two pseudo terminals with a cable between them: `near` and `far` are paths."""

    def __init__(self):
        self.ends = [os.openpty() for _ in range(2)]
        for _, slave in self.ends:
            tty.setraw(slave)
        self.near, self.far = (os.ttyname(slave) for _, slave in self.ends)
        threading.Thread(target=self._carry, daemon=True).start()

    def _carry(self):
        (first, _), (second, _) = self.ends
        with selectors.DefaultSelector() as ready:
            ready.register(first, selectors.EVENT_READ, second)
            ready.register(second, selectors.EVENT_READ, first)
            while True:
                for key, _ in ready.select():
                    os.write(key.data, os.read(key.fd, 4096))


def test_on_the_emulator(example, vendor):
    """As the document's first command line has it, one machine at a time."""
    assert f"test_my_kernel[{vendor}]" in run(example, "--quire-on", vendor, "-v")


def test_over_a_terminal(example, vendor, folder):
    """A serial device, at whose other end the emulator is."""
    cable = NullModem()
    command = (f'qemu.command(disk, serial="serial,path={cable.far}")' if vendor == "svm"
               else f'bochs.prepare(folder, disk, "{cable.far}")')
    said = run(example, "-v", "--quire-serial", cable.near, "--quire-power", power(folder, command))
    assert "test_my_kernel[serial] PASSED" in said


@pytest.mark.only_vendor("svm", reason="only QEMU offers its serial port by network")
def test_over_tcp(example, vendor, folder):
    """A network port that isn't there before the machine is on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = f'qemu.command(disk, serial="socket,host=127.0.0.1,port={port},server=on,wait=on")'
    said = run(example, "-v", "--quire-serial", f"socket://127.0.0.1:{port}", "--quire-power", power(folder, command))
    assert "test_my_kernel[serial] PASSED" in said
