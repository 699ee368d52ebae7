# SPDX-License-Identifier: Apache-2.0
"""Attack 3 on the hardware: frames that a running guest still remembers go to another machine, which fills them."""
import os
import re

import pytest
from harness import BUILD

CONFIG = """\
[host]
when_idle = monitor
[vm keeper]
kernel = stale.elf
cmdline = pages=1536
memory = 32M
cpu = 1
weight = 1000
autostart = off
test_ports = on
[vm poison]
kernel = secret.elf
memory = 280M
cpu = 0
cmdline = again
on_reset = restart
large_pages = off
autostart = off
test_ports = on
"""
LIVES = 3


def collapsed(monitor):
    """Blocks that were copied into a large page, of all machines."""
    return sum(int(value) for value in re.findall(r"Alloc2\s+(\d+)", "\n".join(monitor.command("stats /PGM/LargePage/Alloc2"))))


@pytest.mark.slow
@pytest.mark.only_vendor("svm", reason="what is typed beside two machines that never rest does not get through on Bochs")
def test_attack3_recycled_frames(boot):
    """A guest's single pages are joined by an idle CPU while it runs; what they were is cleared, and poisoned: it never sees that."""
    names = ("stale", "secret")
    machine = boot(CONFIG, {f"{name}.elf": os.path.join(BUILD, f"guests/{name}.elf") for name in names}, cpus=3, memory=512)
    monitor = machine.monitor.wait_prompt()
    monitor.command("vm start poison")
    monitor.wait_guest_line("poison", "filled")
    for _ in range(LIVES):
        monitor.command("vm start keeper")
        monitor.wait_guest_line("keeper", "ready")
        assert monitor.command("dirtylog keeper on")  # from now on memory comes in single pages
        monitor.command("console keeper", prompt=False)
        machine.send("g")
        machine.expect("stamped 1536 pages")
        for _ in range(3):  # from console to console, and back to the prompt
            machine.send("\x1d")
            try:
                monitor.wait_prompt(5)
                break
            except AssertionError:
                continue
        monitor.command("dirtylog keeper off")
        for _ in range(100):
            if collapsed(monitor) >= 1:
                break
        assert collapsed(monitor) >= 1, monitor.command("stats LargePage")
        monitor.wait_guest_line("poison", "filled")
        monitor.wait_guest_line("poison", "filled")
        machine.send("vm stop keeper\r")
        assert monitor.wait_stopped("keeper") == "stopped by the operator", monitor.console_of("keeper")
        monitor.wait_prompt()
    machine.send("vm stop poison\r")
    monitor.wait_stopped("poison")
    monitor.wait_prompt()
    assert monitor.command("check") == ["check: 0 findings"]
    assert "STALE" not in machine.text
