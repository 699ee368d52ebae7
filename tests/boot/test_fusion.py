# SPDX-License-Identifier: Apache-2.0
"""Machines that share: two equal Debian guests, before and after a search for equal pages; and groups that don't meet."""
import re

import pytest
from harness import guests

from test_linux import attach, back, power_off, shell
from test_smp import config

CONTENT = "find /bin /sbin /lib /usr -xdev -type f 2>/dev/null | sort | xargs cat | sha256sum"


def sums(machine, names):
    found = []
    for name in names:
        attach(machine, name)
        found.append(shell(machine, CONTENT, "^[0-9a-f]{64}  -").group(0))
        back(machine)
    return found


def numbers(monitor, command, timeout=None):
    return {name: int(value) for line in monitor.command(command, timeout)
            for name, value in re.findall(r"^([a-z ]+): (\d+)$", line)}


def held(monitor):
    answer = numbers(monitor, "info chunks")
    return answer["private pages"] + answer["shared pages"]


@pytest.mark.slow
def test_two_equal_machines(boot, vendor, linux):
    """What they hold together goes well below the sum; each still finds all of its files as they were, and can write."""
    names = ("alpha", "beta")
    machine = boot(config(vendor, names, 1, 160, "page_fusion = on\nshare_group = both"), linux, memory=640)
    monitor = machine.monitor.wait_prompt()
    for _ in names:  # whichever is first
        machine.expect(guests.READY, 900)
    before = sums(machine, names)
    assert before[0] == before[1]
    pages = held(monitor)
    answer = numbers(monitor, "fuse now", 900)
    print("pages held:", pages, "then", held(monitor), answer)
    assert answer["shared pages"] > 1000
    assert answer["sharing pages"] >= 2 * answer["shared pages"] * 0.9
    assert held(monitor) < pages * 0.8
    assert numbers(monitor, "compact", 300)["chunks given back"] > 0
    assert sums(machine, names) == before
    assert monitor.command("check")[-1] == "check: 0 findings"
    power_off(machine, names)
    assert numbers(monitor, "info chunks")["shared pages"] == 0
    assert monitor.command("check")[-1] == "check: 0 findings"
