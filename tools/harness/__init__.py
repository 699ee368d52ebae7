# SPDX-License-Identifier: Apache-2.0
"""Quire's test harness: boots images on emulators or a real machine, talks over the serial line, asks the monitor.

docs/harness.md shows it. What it needs beside Debian's python3: mtools; pytest for the plugin; python3-serial for real machines.
"""
import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build")

from .emulators import Bochs, Qemu, QemuKvm  # noqa: E402
from .machine import Machine, MachineEnded, MachineError, TimedOut  # noqa: E402
from .monitor import Monitor  # noqa: E402
from .serial_line import SerialMachine  # noqa: E402

__all__ = ["BUILD", "Bochs", "Machine", "MachineEnded", "MachineError", "Monitor", "Qemu", "QemuKvm", "ROOT", "SerialMachine",
           "TimedOut"]
