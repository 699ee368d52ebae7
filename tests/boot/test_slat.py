# SPDX-License-Identifier: Apache-2.0
"""Second-level entries of every kind: what the page manager makes of them, and what the processor does."""
import os

import pytest
from harness import BUILD, Bochs

GOOD = "exit port 0xf4 value 42"


@pytest.mark.parametrize("level", [0, 1])
def test_misconfiguration_matrix(boot, level):
    """Rights, types, size and each single bit at every level, with leaves of 4 KiB and of 2 MiB."""
    quirks = " bochs" if boot.machine_class is Bochs else ""
    text = (f"[host]\nwhen_idle = monitor\n[vm a]\nkernel = slat.elf\nmemory = 48M\ntest_ports = on\n"
            f"cmdline = level={level}{quirks}\nlarge_pages = {'on' if level else 'off'}\n")
    machine = boot(text, {"slat.elf": os.path.join(BUILD, "guests/slat.elf")})
    monitor = machine.monitor
    ended = monitor.wait_stopped("a")
    said = monitor.console_of("a")
    assert ended == GOOD, "\n".join(said)
    assert sum(" cases, " in line for line in said) == 4 - level, said
    monitor.wait_prompt()
    assert monitor.command("check") == ["check: 0 findings"]
