# SPDX-License-Identifier: Apache-2.0
"""A machine under test: its process where it has one, its serial line, and what came over it.

A thread collects the serial output into one growing text; `expect` looks for a pattern in what
came since the last match. Time limits are guards against a hang, never part of a verdict: they
are generous, and don't count a busy host's time (guard.py). The whole output, the
emulator's own words and its command line are left in the machine's folder.
"""
import os
import re
import shlex
import subprocess
import threading

from .guard import SAMPLE, Clock

ESCAPES = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78cMDE]")
TAIL = 40


class MachineError(AssertionError):
    """The machine did not do what the test waits for."""


class TimedOut(MachineError):
    """The guard's time passed."""


class MachineEnded(MachineError):
    """The emulator ended while the test waited for more."""


def plain(text):
    """Serial output as lines of text: no escape sequences, no carriage returns."""
    return ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


class Machine:
    """One run of a machine. Subclasses say how it is started, and what its line's ends are."""

    name = ""
    room = None  # bytes that may be sent before they are taken: those of a UART without flow control, but one for the end of a line
    guard = 120  # seconds that `expect` waits when not told otherwise

    def __init__(self, folder, image, **options):
        self.folder, self.image, self.options = folder, image, options
        self.process = None
        self.position = 0  # where the next `expect` begins
        self._text = ""
        self._closed = False
        self._changed = threading.Condition()
        self._reader = None
        self._in = self._out = None

    @property
    def pid(self):
        """The process whose time a guard counts; None: every second counts."""
        return self.process.pid if self.process else None

    # -- life --

    def start(self):
        os.makedirs(self.folder, exist_ok=True)
        self._launch()
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()
        return self

    def running(self):
        return self.process is not None and self.process.poll() is None

    def wait_end(self, timeout=None):
        """Waits until the emulator ends by itself, and returns its exit status."""
        clock = Clock(self.pid)
        while True:
            try:
                status = self.process.wait(SAMPLE)
                self._finish()
                return status
            except subprocess.TimeoutExpired:
                if clock.over(timeout or self.guard):
                    raise TimedOut(f"{self.name} did not end\n{self.tail()}") from None

    def kill(self):
        """Ends this emulator, by its process id, if it still runs."""
        if self.running():
            self.process.kill()
            self.process.wait()
        if self.process is not None:
            self._finish()

    # -- the serial line --

    def send(self, data):
        """Sends text or bytes as they are."""
        data = data.encode() if isinstance(data, str) else data
        while data:
            try:
                data = data[self._write(data):]
            except OSError as error:
                raise MachineEnded(f"{self.name} takes no input: {error}\n{self.tail()}") from None

    @property
    def log(self):
        """All serial output until now, escape sequences and all."""
        with self._changed:
            return self._text

    @property
    def text(self):
        """All serial output until now as plain lines."""
        return plain(self.log)

    def tail(self):
        """The last lines, for a message."""
        with self._changed:
            return self._tail_locked()

    def expect(self, pattern, timeout=None, refuse=None):
        """Waits for a regular expression in the output since the last match; returns the match.

        `refuse`: a pattern whose appearance first is failure. Both are multi-line ones.
        """
        wanted = re.compile(pattern, re.MULTILINE)
        unwanted = refuse and re.compile(refuse, re.MULTILINE)
        clock = Clock(self.pid)
        with self._changed:
            while True:
                found = wanted.search(self._text, self.position)
                bad = unwanted and unwanted.search(self._text, self.position, found.start() if found else len(self._text))
                if bad:
                    self._changed.wait_for(lambda: self._closed, 1)  # what follows tells more
                    raise MachineError(f"{self.name}: came upon {bad.group()!r} before {pattern!r}\n{self._tail_locked()}")
                if found:
                    self.position = found.end()
                    return found
                if self._closed:
                    raise MachineEnded(f"{self.name} ended before {pattern!r}\n{self._tail_locked()}")
                if clock.over(timeout or self.guard):
                    raise TimedOut(f"{self.name}: waited for {pattern!r} in vain\n{self._tail_locked()}")
                self._changed.wait(SAMPLE)

    # -- inside --

    def _tail_locked(self):
        shown, words = "\n".join(plain(self._text).splitlines()[-TAIL:]), ""
        if os.path.exists(self._path("emulator.log")):
            with open(self._path("emulator.log"), encoding="utf-8", errors="replace") as stream:
                words = "".join(f"{self.name}: {line}" for line in stream.readlines()[-5:])
        return f"--- the last lines of {self.folder}/serial.log:\n{shown}\n---\n{words}"

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _spawn(self, command, stdin, stdout):
        with open(self._path("command"), "w", encoding="utf-8") as stream:
            stream.write(shlex.join(command) + "\n")
        with open(self._path("emulator.log"), "wb") as words:
            self.process = subprocess.Popen(command, stdin=stdin, stdout=words if stdout is None else stdout,
                                            stderr=words, cwd=self.folder, start_new_session=True)

    def _collect(self):
        with open(self._path("serial.log"), "wb", buffering=0) as keep:
            while True:
                data = self._read()
                if data:
                    keep.write(data)
                with self._changed:
                    self._closed = not data
                    self._text += data.decode("latin-1")
                    self._changed.notify_all()
                if not data:
                    return

    def _finish(self):
        if self._reader is not None:
            self._reader.join()
            self._reader = None
            self._release()

    def _read(self):
        """What has come; waits for it. Nothing: the line has ended."""
        try:
            return os.read(self._out, 65536)
        except OSError:  # a pty whose other side has closed
            return b""

    def _write(self, data):
        """Returns how many bytes the line took."""
        return os.write(self._in, data)

    def _launch(self):
        raise NotImplementedError

    def _release(self):
        raise NotImplementedError
