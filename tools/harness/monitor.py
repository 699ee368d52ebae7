# SPDX-License-Identifier: Apache-2.0
"""Quire's monitor as a test uses it: send a command, get its answer.

Guests' lines (`NAME| text`) come between at any time: they are taken out of an answer and kept
in `guest_lines`. The prompt may be drawn again after such a line, so an answer begins after the
line that ends with the command's echo, and ends at the next line that begins with the prompt.
"""
import json
import re

from .machine import ESCAPES, MachineError, plain

PROMPT = "quire> "
GUEST_LINE = re.compile(r"^([A-Za-z0-9_.-]+)\| ?(.*)$")
STOPPED = r"vm (?P<name>[A-Za-z0-9_.-]+): stopped \((?P<reason>[^\n]*)\)"
# The hypervisor's own end; a guest may say what it likes on its own lines.
PANIC = r"^(?![A-Za-z0-9_.-]+\| ).*PANIC: "
ESCAPE = f"(?:{ESCAPES.pattern})"


class Monitor:
    """The prompt of one machine's serial line."""

    def __init__(self, machine):
        self.machine = machine
        self.guest_lines = []

    def wait_prompt(self, timeout=None):
        """Waits for the first prompt after boot."""
        self.machine.expect(rf"(?:^|\r|\n){ESCAPE}*{PROMPT}", timeout, refuse=PANIC)
        return self

    def command(self, text, timeout=None, prompt=True):
        """Sends one command; returns its answer as a list of lines, without guests' lines.

        With prompt=False (poweroff, console) it returns [] as soon as the command is echoed.
        """
        self._type(text)
        self.machine.send("\r")
        self.machine.expect(_echo(text) + rf"{ESCAPE}*[ \t]*{ESCAPE}*\r*\n", timeout, refuse=PANIC)
        if not prompt:
            return []
        begin = self.machine.position  # no group for the answer: it would be looked for from each of its bytes
        found = self.machine.expect(rf"(?:^|\r|\n){ESCAPE}*{PROMPT}", timeout, refuse=PANIC)
        return self._without_guests(self.machine.log[begin:found.start()])

    def json(self, text, timeout=None):
        """Sends one command in JSON mode; returns its one line, parsed."""
        for line in self.command(text, timeout):
            if line[:1] in "{[":
                return json.loads(line)
        raise MachineError(f"no line of JSON for {text!r}\n{self.machine.tail()}")

    def wait_stopped(self, name, timeout=None):
        """Waits for `vm NAME: stopped (REASON)` and returns REASON."""
        found = self.machine.expect(STOPPED.replace("[A-Za-z0-9_.-]+", re.escape(name), 1), timeout, refuse=PANIC)
        return found.group("reason")

    def wait_guest_line(self, name, pattern, timeout=None):
        """Waits for a line of the guest's console, `NAME| ...`, with the pattern in it."""
        return self.machine.expect(rf"{re.escape(name)}\| [^\r\n]*?(?:{pattern})", timeout, refuse=PANIC)

    def console_of(self, name):
        """All complete console lines of a guest until now."""
        found = (GUEST_LINE.match(line) for line in self.machine.text.splitlines())
        return [match.group(2) for match in found if match and match.group(1) == name]

    def _type(self, text):
        """Sends it in pieces that the line has room for; each is waited for, but the last, as a busy processor takes them late."""
        room, position = self.machine.room or len(text), self.machine.position
        for end in range(room, len(text) + room, room):
            self.machine.send(text[end - room:end])
            if end < len(text):
                self.machine.position = position
                self.machine.expect(_echo(text[:end]), refuse=PANIC)
        self.machine.position = position

    def _without_guests(self, answer):
        lines = []
        for line in plain(answer).strip("\n").split("\n"):
            guest = GUEST_LINE.match(line)
            if guest:
                self.guest_lines.append(guest.groups())
            elif line.strip():
                lines.append(line.rstrip())
        return lines


def _echo(text):
    """The pattern of a command's echo."""
    return "".join(ESCAPE + "*" + re.escape(char) for char in text)
