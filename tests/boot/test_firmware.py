# SPDX-License-Identifier: Apache-2.0
"""Firmware that lies (selftest/liar.c): Quire starts all the same, and says what it did without, or says why it can't."""
import re

from test_boot import GOOD, HELLO, refused
from harness import BUILD

QUIRE = {"quire.efi": f"{BUILD}/BOOTX64.EFI"}


def start(boot, liar, more=None):
    return boot(f"[host]\nwhen_idle = monitor\n{GOOD}", {**HELLO, **QUIRE, **(more or {})}, efi=liar, verify=False, memory=256)


def lives(machine):
    """A guest runs to its end, and the books are right."""
    assert machine.monitor.wait_stopped("good") == "exit port 0xf4 value 42"
    assert machine.monitor.command("check") == ["check: 0 findings"]


def test_lies_in_the_memory_map(boot, liar):
    """Entries that are empty, misaligned, end nowhere, tell the same twice, or are reserved where memory is."""
    machine = start(boot, liar)
    lives(machine)
    told = re.findall(r"memory map entry \d+ \(type (\d+), .*?\): ([^\r\n]*)", machine.text)
    assert told == [("7", "empty: left out"), ("7", "not page-aligned: left out"),
                    ("7", "ends beyond the physical address space: left out"),
                    ("0", "ends beyond the physical address space: left out"),
                    ("7", "ends beyond the physical address space: left out"), ("7", "told twice, or one range too many"),
                    ("0", "another entry calls it usable: left out"), ("11", "another entry calls it usable: left out")], told


def test_mtrrs_left_off(boot, liar, vendor, tmp_path):
    """In a virtual machine, as QEMU's processor says that it is, that means nothing; on a real one it is told."""
    flag = tmp_path / "mtrroff"
    flag.write_text("x")
    machine = start(boot, liar, {"mtrroff": str(flag)})
    if vendor == "svm":
        machine.expect("mtrr: left off: believing that the hypervisor below")
        lives(machine)
    else:
        refused(machine, "What is missing: .*MTRRs off", "What to change: .*firmware")
