# SPDX-License-Identifier: Apache-2.0
"""Quire's side of the benchmark: what its monitor and its machines say while it runs."""
import os
import re
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
from harness import Monitor  # noqa: E402
from harness.guard import Clock  # noqa: E402


class Quire:
    """Quire's monitor, and what a machine said, whenever: answers and guests' lines come in any order."""

    def __init__(self, machine):
        self.machine, self.monitor, self.rows = machine, Monitor(machine), []

    def wait(self, pattern):
        """The first match in all that was printed."""
        clock = Clock(self.machine.pid)
        while not clock.over(600):
            found = re.search(pattern, self.machine.text)
            if found:
                return found
            if not self.machine.running():
                break
            time.sleep(0.1)
        raise RuntimeError(f"waited for {pattern!r}\n{self.machine.tail()}")

    def wait_good(self, name):
        reason = self.wait(rf"vm {name}: stopped \(([^\n]*)\)").group(1)
        if reason != "exit port 0xf4 value 42":
            raise RuntimeError(f"vm {name} stopped: {reason}\n{self.machine.tail()}")

    def ask(self, command):
        """The answer's numbers by name."""
        lines = self.monitor.command(command, 600)
        found = dict(match.groups() for match in map(re.compile(r"([a-z0-9_ ]+): (\d+)$").match, lines) if match)
        if not found:
            raise RuntimeError(f"{command}: {lines}")
        return {key.replace(" ", "_"): int(value) for key, value in found.items()}

    def row(self, name, ticks, count):
        self.rows.append(f"row {name} mode {ticks // count} sum {ticks:#x} count {count}\n")

    def log(self, name, size, way, pages):
        """One machine whose guest measures the dirty log; each time it says so, it is our turn, and a typed byte answers."""
        self.monitor.command(f"vm start {name}")
        self.wait(rf"{name}\| turn on")
        ticks = self.ask(f"dirtylog {name} on {way}")["ticks"]
        self.ask(f"type {name} g")
        if size == "4k":
            self.row(f"log_on_{way}", ticks, pages)
            self.wait(rf"{name}\| turn read")
            answer = self.ask(f"dirtylog {name} read")
            if answer["pages"] < pages:
                raise RuntimeError(f"the log has {answer['pages']} pages")
            self.row(f"log_read_{way}", answer["ticks"], answer["pages"])
        else:
            self.wait(rf"{name}\| turn collapse")
            self.monitor.command(f"dirtylog {name} off")
            answer = self.ask(f"bench {name}")
            self.row("collapse", answer["collapse"], answer["collapsed"])
            for what in ("handler_hit", "write_4k", "read_4k"):
                self.row(what, answer[what], 1)
        self.ask(f"type {name} g")
        self.wait_good(name)


def finish(machine, work):
    try:
        work()
        return machine.text
    finally:
        machine.kill()
