# SPDX-License-Identifier: Apache-2.0
"""Attack 3 on the hardware: frames that a running guest still remembers go to another machine, which fills them."""
import os
import re

from harness import BUILD

CONFIG = """\
[host]
when_idle = monitor
[vm keeper]
kernel = stale.elf
cmdline = pages=1536
memory = 32M
cpu = 1
autostart = off
test_ports = on
[vm poison]
kernel = secret.elf
memory = 280M
cpu = 0
autostart = off
test_ports = on
"""
LIVES = 2


def collapsed(monitor):
    """Blocks that were copied into a large page, of all machines."""
    return sum(int(value) for value in re.findall(r"Alloc2\s+(\d+)", "\n".join(monitor.command("stats /PGM/LargePage/Alloc2"))))


def test_attack3_recycled_frames(boot):
    """A guest's single pages are joined by the other CPU while it runs; what they were is poisoned; it never sees that."""
    names = ("stale", "secret")
    machine = boot(CONFIG, {f"{name}.elf": os.path.join(BUILD, f"guests/{name}.elf") for name in names},
                   cpus=2, memory=512)
    monitor = machine.monitor.wait_prompt()
    for _ in range(LIVES):
        monitor.command("vm start keeper")
        monitor.wait_guest_line("keeper", "ready")
        assert monitor.command("dirtylog keeper on")
        monitor.command("console keeper", prompt=False)
        machine.send("g")
        machine.expect("stamped 1536 pages")
        machine.send("\x1d")
        monitor.wait_prompt()
        monitor.command("dirtylog keeper off")
        for _ in range(3):  # joined in between, whenever CPU 0 has nothing else to do
            machine.send("vm start poison\r")
            assert monitor.wait_stopped("poison") == "exit port 0xf4 value 42"
            monitor.wait_prompt()
        for _ in range(40):
            if collapsed(monitor) >= 3:
                break
        assert collapsed(monitor) >= 3, monitor.command("stats /PGM/LargePage/*")
        machine.send("vm start poison\r")
        assert monitor.wait_stopped("poison") == "exit port 0xf4 value 42"
        monitor.wait_prompt()
        assert monitor.command("check") == ["check: 0 findings"]
        machine.send("vm stop keeper\r")
        assert monitor.wait_stopped("keeper") == "stopped by the operator"
        monitor.wait_prompt()
    assert "STALE" not in machine.text
