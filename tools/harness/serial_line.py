# SPDX-License-Identifier: Apache-2.0
"""A real machine at a serial line: a device (/dev/ttyUSB0, a pseudo terminal) or a network port (socket://host:port).

Who turns it on is the power command's business: it gets the image's path, and may write it to a stick, serve it by network,
press a relay, or start an emulator. It may stay while the machine runs; it is ended with the test. Without one, a person does
it. A port that isn't there yet is tried again until the guard's time is over.
"""
import os
import shlex
import signal
import subprocess
import threading

from .guard import SAMPLE, Clock
from .machine import Machine, TimedOut

BAUD = 115200


class SerialMachine(Machine):
    """Options: url; power, a command in which {image} stands for the image's path; memory, cpus and other emulators' are ignored."""

    name = "the machine"
    vendor = "serial"
    room = 15
    guard = 300

    def running(self):
        return not self._closed

    def _launch(self):
        try:
            import serial  # pylint: disable=import-outside-toplevel  # only who has a real machine needs it
        except ImportError:
            raise RuntimeError("a serial line needs pyserial: apt-get install python3-serial") from None
        port, power = None, self.options.get("power")
        try:
            port = self._open(serial)
        except serial.SerialException:
            if not power:
                raise
        if power:
            self._spawn(shlex.split(power.format(image=shlex.quote(os.path.abspath(self.image)))), subprocess.DEVNULL, None)
        clock, wait = Clock(self.pid), threading.Event()
        while port is None:
            try:
                port = self._open(serial)
            except serial.SerialException as error:
                if clock.over(self.guard) or self.process.poll() is not None:
                    raise TimedOut(f"{self.options['url']}: {error}\n{self.tail()}") from None
                wait.wait(SAMPLE)
        self._in = self._out = port

    def _open(self, serial):
        return serial.serial_for_url(self.options["url"], baudrate=BAUD, timeout=SAMPLE)

    def _read(self):
        import serial  # pylint: disable=import-outside-toplevel
        try:
            while self._in is not None:
                data = self._out.read(max(self._out.in_waiting, 1))
                if data:
                    return data
                if self.process and self.process.poll() is not None:
                    return self._out.read(65536)
        except (OSError, TypeError, serial.SerialException):
            pass  # unplugged, or closed by the other side
        return b""

    def _write(self, data):
        return self._in.write(data)

    def wait_end(self, timeout=None):
        """Waits for the power command's end, or that of a line which can end."""
        if self.process:
            return super().wait_end(timeout)
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed, timeout or self.guard):
                raise TimedOut(f"{self.name} did not end\n{self._tail_locked()}")
        self._finish()
        return 0

    def kill(self):
        """Ends the power command with all that it started, and lets the line go."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self._in = None
        self._finish()

    def _release(self):
        self._in = None
        self._out.close()
