# SPDX-License-Identifier: Apache-2.0
"""Four vcpus on two of the host's processors: having seen a newer value, none sees an older one, whatever becomes of the pages.

One vcpu writes, three read. Their pages go from zeros to memory, lose and regain the right to be written under the dirty log,
and are split and joined, by copying too, by the host's third processor.
"""
import time

import pytest

from test_guests import GOOD, elf, section

MORE = "cpus = 4\ncpu = 1-2\nautostart = off\n"
PAGES, BLOCK = 16 << 20, 2 << 20  # where the guest's pages begin
MACHINES = {
    "pages": (32, "", ""),
    "small": (32, "rounds=1024", "large_pages = off\n"),
    "blocks": (64, "block", ""),
}


def large(monitor, name, *counters):
    """Sum of some counters of large pages."""
    rows = monitor.json(f"stats {name}/PGM/LargePage/*")["stats"]
    return sum(row["value"] for row in rows if row["name"].rpartition("/")[2] in counters)


def wait_more(monitor, name, before, *counters):
    for _ in range(1000):
        if large(monitor, name, *counters) > before:
            return
        time.sleep(0.5)  # while the monitor answers, its CPU does nothing else
    pytest.fail(f"{counters} is still {before}:" + "\n".join(monitor.command(f"stats {name}/PGM/LargePage/*")))


def log_some(monitor, name):
    """Under write protection, until some pages were written: translations of large ones are split for these."""
    assert monitor.json(f"dirtylog {name} on wp")["ok"]
    for _ in range(1000):
        if monitor.json(f"dirtylog {name} read")["pages"]:
            return
    pytest.fail("nothing was written")


def split_some(monitor, name, number):
    """A page of each of some blocks has a handler for a moment, at rest, which splits the block."""
    assert monitor.json(f"vm pause {name}")["ok"]
    for block in range(PAGES, PAGES + 3 * BLOCK, BLOCK):
        answer = monitor.json(f"bench {name} {block + number % 512 * 4096:#x}")
        assert answer.get("zap"), answer
    assert monitor.json(f"vm resume {name}")["ok"]


def disturb(monitor, name, number, times):
    """The log with its splits, on and off again and again; large translations come back. Then blocks are split and joined."""
    before = large(monitor, name, "Setup")
    log_some(monitor, name)
    monitor.json(f"dirtylog {name} off")
    answer = monitor.json(f"dirtylog {name} toggle {times}", 900)
    assert answer["ok"] and answer["mode"] == "off", answer
    if name != "small":
        wait_more(monitor, name, before, "Setup")
    before = large(monitor, name, "Alloc2", "Reused")
    split_some(monitor, name, number)
    if name != "small":
        wait_more(monitor, name, before, "Alloc2", "Reused")


def play(monitor, name, times, rounds):
    machine = monitor.machine
    monitor.json(f"vm start {name}")
    monitor.wait_guest_line(name, "ready")
    if name != "blocks":  # memory comes in single pages under the log, even where large ones are allowed
        assert monitor.json(f"dirtylog {name} on")["ok"]
    monitor.json(f"type {name} g")
    monitor.wait_guest_line(name, "first pass", 900)
    if name != "blocks":
        assert large(monitor, name, "Alloc2", "Reused") == 0
        monitor.json(f"dirtylog {name} off")
    if name == "pages":
        wait_more(monitor, name, 0, "Alloc2", "Reused")
    for number in range(rounds):
        disturb(monitor, name, number, times)
    machine.send(f"type {name} g\r")
    assert monitor.wait_stopped(name, 900) == GOOD, monitor.console_of(name)
    assert any(line.endswith(" rounds, 0 stale") for line in monitor.console_of(name))
    monitor.wait_prompt()


def litmus(boot, names, times, rounds):
    text = "[host]\nwhen_idle = monitor\n" + "".join(
        section(name, "litmus", MACHINES[name][0], f"cpus=4 told {MACHINES[name][1]}", MORE + MACHINES[name][2]) for name in names)
    monitor = boot(text, {"litmus.elf": elf("litmus")}, cpus=3, memory=384).monitor.wait_prompt()
    monitor.command("mode json")
    for name in names:
        play(monitor, name, times, rounds)
    assert monitor.json("check")["findings"] == 0


def test_no_older_after_newer(boot):
    litmus(boot, ["pages"], 3, 1)


@pytest.mark.slow
@pytest.mark.parametrize("times, rounds", ((6, 1), (60, 10)))
def test_no_older_after_newer_for_long(boot, times, rounds):
    """The same with small pages and whole blocks; then with hundreds of logs, and blocks joined and split again and again."""
    litmus(boot, list(MACHINES), times, rounds)
