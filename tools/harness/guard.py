# SPDX-License-Identifier: Apache-2.0
"""Guards against a hang that don't count a busy host's time.

A clock runs while its process has what it needs: time in which one of its threads wanted a processor and had none is
left out, as Linux counts it (run delay, /proc/PID/task/TID/schedstat). So a limit means the same on an idle host and beside
four busy loops. The process's children count with it. QUIRE_TIMEOUT_SCALE stretches all limits, for a slow processor.
"""
import os
import subprocess
import time

SCALE = float(os.environ.get("QUIRE_TIMEOUT_SCALE", "1"))
SAMPLE = 0.5  # seconds between two looks


def _numbers(path):
    try:
        with open(path, encoding="ascii") as stream:
            return [int(word) for word in stream.read().split()]
    except (OSError, ValueError):
        return []


def _names(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def processes(pid):
    """A process and all below it."""
    found = [pid]
    for parent in found:
        for thread in _names(f"/proc/{parent}/task"):
            found += _numbers(f"/proc/{parent}/task/{thread}/children")
    return found


def _delays(pid):
    """{thread: seconds that it has waited for a processor}."""
    threads = ((each, thread) for each in processes(pid) for thread in _names(f"/proc/{each}/task"))
    counts = {thread: _numbers(f"/proc/{each}/task/{thread}/schedstat") for each, thread in threads}
    return {thread: numbers[1] / 1e9 for thread, numbers in counts.items() if len(numbers) == 3}


class Clock:
    """Seconds since its making that the process could use. pid None: all seconds are (a machine of its own)."""

    def __init__(self, pid=None):
        self.pid, self.elapsed = pid, 0.0
        self._then, self._delays = time.monotonic(), _delays(pid) if pid else {}

    def look(self):
        """Brings `elapsed` up to date and returns it. To be called every second or so."""
        now = time.monotonic()
        if now - self._then >= SAMPLE or not self.pid:
            delays = _delays(self.pid) if self.pid else {}
            lost = max((delay - self._delays.get(thread, 0) for thread, delay in delays.items()), default=0)
            self.elapsed += max(now - self._then - lost, 0)
            self._then, self._delays = now, delays
        return self.elapsed

    def over(self, limit):
        return self.look() > limit * SCALE


def run(command, limit, **options):
    """As subprocess.run with a limit in such seconds; TimeoutExpired is raised when it has passed and all is killed."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as process:
        clock = Clock(process.pid)
        while True:
            try:
                output, _ = process.communicate(timeout=SAMPLE)
                return subprocess.CompletedProcess(command, process.returncode, output)
            except subprocess.TimeoutExpired:
                if clock.over(limit):
                    process.kill()
                    output, _ = process.communicate()
                    raise subprocess.TimeoutExpired(command, limit, output) from None
