# SPDX-License-Identifier: Apache-2.0
"""The emulators as machines under test."""
import os
import shutil
import subprocess
import threading
import tty

from . import bochs, qemu
from .machine import Machine


class Qemu(Machine):
    """QEMU with TCG: SVM. Options: those of qemu.py."""

    name = "QEMU"
    vendor = "svm"

    def _launch(self):
        self._spawn(qemu.command(self.image, **self.options), subprocess.PIPE, subprocess.PIPE)
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()

    def _release(self):
        self.process.stdin.close()
        self.process.stdout.close()


class QemuKvm(Qemu):
    """QEMU with KVM, where the host can nest: whatever the host's processor has."""

    vendor = qemu.host_vendor()

    def __init__(self, folder, image, **options):
        super().__init__(folder, image, kvm=True, **options)


class Bochs(Machine):
    """Bochs: VMX (or SVM with model="zambezi"). Options: those of bochs.py."""

    name = "Bochs"
    vendor = "vmx"
    room = 15
    guard = 300

    def _launch(self):
        disk = self._path("disk.img")  # Bochs writes to its disk and locks it
        shutil.copyfile(self.image, disk)
        self._out, other = os.openpty()
        tty.setraw(other)
        self._in = self._out
        command = bochs.prepare(self.folder, disk, os.ttyname(other), **self.options)
        self._spawn(command, subprocess.DEVNULL, None)
        self._other = other
        threading.Thread(target=self._hang_up, daemon=True).start()

    def _hang_up(self):
        # The reader sees the end only when nobody holds the terminal's other side any more; we hold
        # it ourselves as long as Bochs runs, because Bochs opens it late and may close it early.
        self.process.wait()
        os.close(self._other)

    def _release(self):
        os.close(self._out)
        os.remove(self._path("disk.img"))
        if os.path.exists(self._path("disk.img.lock")):
            os.remove(self._path("disk.img.lock"))

    @property
    def out_of_ticks(self):
        """Whether the run was ended by its limit of ticks."""
        with open(self._path("emulator.log"), encoding="latin-1") as stream:
            return "Caught time breakpoint" in stream.read()
