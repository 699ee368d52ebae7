# SPDX-License-Identifier: Apache-2.0
"""tools/run, as a person at a terminal meets it; the harness's small program stands in for Quire."""
import os
import time

import pexpect
import pytest
from harness import ROOT
from harness.guard import Clock

CONFIG = "[vm a]\nkernel = beside\n"


def wait(child, text):
    """child.expect_exact (of a pattern, or of the end), with a guard that counts the tool's time."""
    clock = Clock(child.pid)
    while child.expect_exact([text, pexpect.TIMEOUT]):
        assert not clock.over(120), f"waited for {text!r} in vain: {child.before!r}"


@pytest.fixture
def terminal(vendor, echo, folder):
    """A terminal in which tools/run has come to the prompt."""
    with open(os.path.join(folder, "my.conf"), "w", encoding="ascii") as stream:
        stream.write(CONFIG)
    with open(os.path.join(folder, "beside"), "wb") as stream:
        stream.write(b"x" * 4711)
    machine = "bochs" if vendor == "vmx" else "qemu"
    arguments = ["--machine", machine, "--efi", echo, "--config", os.path.join(folder, "my.conf"), "--memory", "256"]
    with open(os.path.join(folder, "terminal.log"), "wb") as log:
        child = pexpect.spawn(os.path.join(ROOT, "tools/run"), arguments, timeout=1, logfile=log)
        wait(child, "quire> ")
        yield child
        child.close(force=True)


def test_keys_reach_the_machine(terminal):
    """Ctrl-C and the like go through; a file is found beside its configuration; the end is clean."""
    terminal.send("say <\x03\x1a\x1d>\r")
    wait(terminal, "<\x03\x1a\x1d>\r\n<\x03\x1a\x1d>\r\n")
    wait(terminal, "quire> ")
    terminal.send("size beside\r")
    wait(terminal, "\r\n4711\r\n")
    terminal.send("poweroff\r")
    wait(terminal, "stopped (poweroff)")
    wait(terminal, pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


@pytest.mark.only_vendor("svm", reason="both emulators are ended by the same code")
@pytest.mark.parametrize("how", ["keys", "signal"])
def test_ended_from_outside(terminal, how):
    """Three times Ctrl-\\, or a hang-up of the tool, leave no emulator behind."""
    pid = emulator_of(terminal.pid)
    if how == "keys":
        terminal.send("\x1c\x1c\x1c")
    else:
        terminal.kill(15)
    wait(terminal, pexpect.EOF)
    terminal.close()
    for _ in range(100):
        if not os.path.exists(f"/proc/{pid}"):
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} still runs")


def emulator_of(parent):
    """The process id of the one child of tools/run."""
    with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as stream:
        child, = stream.read().split()
    return int(child)
