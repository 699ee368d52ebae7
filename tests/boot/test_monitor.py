# SPDX-License-Identifier: Apache-2.0
"""The monitor: every command that `help` lists answers, in words and in JSON, while a guest runs."""
import os
import re
import time

import pytest
from harness import BUILD

CONFIG = """\
[vm a]
kernel = hlt.elf
memory = 32M
cpus = 2
balloon = on
memory_max = 64M
cmdline = dead
test_ports = on
[vm b]
kernel = hello.elf
memory = 32M
autostart = off
test_ports = on
"""
FILES = {f"{name}.elf": os.path.join(BUILD, f"guests/{name}.elf") for name in ("hlt", "hello")}
# What a command is given where `help` says that it needs something.
ARGUMENTS = {"NAME": "a", "GPA": "0x100000", "GVA": "0x100000", "ADDRESS": "0x100000", "json|text": "json", "VCPU": "0",
             "COMMAND": "check", "GLOB": "/GMM/*", "on|off": "off", "on|off|now": "off"}
APART = {"echo", "poweroff", "reboot", "console", "mode", "vm stop", "vm start", "vm reset", "vm pause", "vm resume", "vm button", "dirtylog", "pgmphystofile"}


def line_of(entry):
    """A line to type for an entry of help: "walk NAME GVA" -> "walk a 0x100000"; what is in brackets is left out."""
    while "[" in entry:
        entry = re.sub(r"\[[^][]*\]", "", entry)
    return " ".join(ARGUMENTS.get(word, word) for word in entry.split())


def commands(monitor):
    entries = [row["command"] for row in monitor.json("help")["commands"]]
    assert len(entries) >= 15, entries
    return [entry for entry in entries if not any(re.match(rf"{name}\b", entry) for name in APART)]


def test_every_command(boot):
    """Each answers without an error in both modes; JSON parses; wrong ones are told apart."""
    machine = boot(CONFIG, FILES)
    monitor = machine.monitor.wait_prompt()
    monitor.command("mode json")
    assert monitor.json("vm pause a")["done"] == "paused"
    assert monitor.json("vm resume a")["done"] == "resumed"
    listed = commands(monitor)
    for entry in listed:
        answer = monitor.json(line_of(entry))
        assert "error" not in answer, (entry, answer)
    for wrong in ("nonsense", "vm info nobody", "page a", "page a zzz", "vm start a", "info nothing", "info cpu a/2",
                  "walk a/x 0", "info mode a/"):
        assert "error" in monitor.json(wrong), wrong
    assert [each["activity"] for each in monitor.json("info cpu a/1")["vcpus"]] == ["waits for SIPI"]
    assert [each["vcpu"] for each in monitor.json("info mode a")["modes"]] == ["a vcpu 0", "a vcpu 1"]
    assert monitor.json("walk a/1 0xfffffff0")["mode"] == "REAL"
    monitor.command("mode text")
    for entry in listed:
        assert monitor.command(line_of(entry)), entry
    assert monitor.command("check")[-1] == "check: 0 findings"


def test_life_of_a_machine(boot):
    """Start, stop, start again, reset; the states are seen; poweroff ends the emulator."""
    machine = boot(CONFIG, FILES)
    monitor = machine.monitor.wait_prompt()
    monitor.command("mode json")

    def state(name):
        return next(row["state"] for row in monitor.json("vm list")["machines"] if row["name"] == name)

    assert (state("a"), state("b")) == ("running", "off")
    machine.send("vm start b\r")
    assert monitor.wait_stopped("b") == "exit port 0xf4 value 42"
    machine.send("vm reset a\r")
    machine.expect("vm a: reset\\r?\\n")
    machine.send("vm stop a\r")
    assert monitor.wait_stopped("a") == "stopped by the operator"
    monitor.wait_prompt()
    assert state("a") == "off"
    monitor.command("poweroff", prompt=False)
    assert machine.wait_end() == (0 if machine.vendor == "svm" else 1)


def test_walk_in_pae(boot):
    """The four top entries stand in a register of the processor, or in memory, as the vendor has it."""
    machine = boot("[vm pae]\nkernel = pae.elf\nmemory = 16M\ntest_ports = on\n",
                   {"pae.elf": os.path.join(BUILD, "guests/pae.elf")})
    monitor = machine.monitor
    monitor.wait_guest_line("pae", "paging")
    monitor.command("mode json")
    answer = monitor.json("walk pae 0x40000123")
    assert (answer["result"], answer["gpa"]) == ("mapped", "0x400123"), answer


def test_line_editing(boot):
    """Backspace, cursor keys, history, completion, and a line that is given up."""
    machine = boot(CONFIG, FILES)
    monitor = machine.monitor.wait_prompt()
    machine.send("vm lisx\x7ft\r")
    machine.expect("running")
    monitor.wait_prompt()
    machine.send("\x1b[A\r")  # the line before
    machine.expect("running")
    monitor.wait_prompt()
    machine.send("m list\x1b[H" + "v\r")  # Home, then the missing letter
    machine.expect("running")
    monitor.wait_prompt()
    machine.send("nonsense\x03")  # Ctrl-C
    machine.send("vm li\t\r")
    machine.expect("running")


def idle_part(monitor):
    """Percent of its time that the boot CPU slept so far."""
    return int(next(line for line in monitor.command("cpu") if re.match(r" *0 ", line)).split()[3].rstrip("%"))


@pytest.mark.parametrize("cpu", [0, 1], ids=["busy", "asleep"])
def test_pasted_text_is_whole(boot, cpu):
    """200 characters at the line's full speed, while the boot CPU runs a guest that never rests, or sleeps: none is lost.

    Nor is what is typed while a command goes on; a machine told to be paused stands still when the next one runs.
    """
    text = f"[vm busy]\nkernel = vectors.elf\nmemory = 16M\ncmdline = rounds=4000000000\ncpu = {cpu}\ntest_ports = on\n"
    machine = boot(text, {"vectors.elf": os.path.join(BUILD, "guests/vectors.elf")}, cpus=2, memory=192)
    monitor = machine.monitor
    monitor.wait_guest_line("busy", "spinning")
    for _ in range(100):  # it clears free memory first
        if not cpu or idle_part(monitor) >= 5:
            break
        time.sleep(0.5)  # to be asked keeps it awake
    for length in (40, 100, 200):
        words = "".join(chr(ord("a") + i % 26) for i in range(length))
        assert monitor.command(f"echo {words}") == [words]
    machine.send("vm pause busy\rvm resume busy\r" * 3)
    for _ in range(3):
        machine.expect("vm busy: paused")
        machine.expect("vm busy: resumed")
