# SPDX-License-Identifier: Apache-2.0
"""The boot tests' harness: start an emulator from an image, talk to its serial port, judge what it says."""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.path.join(ROOT, "build")
sys.path.insert(0, os.path.join(ROOT, "tools"))

from .machine import Bochs, Machine, MachineEnded, Qemu, QemuKvm, TimedOut  # noqa: E402
from .monitor import Monitor  # noqa: E402

__all__ = ["BUILD", "Bochs", "Machine", "MachineEnded", "Monitor", "Qemu", "QemuKvm", "ROOT", "TimedOut"]
