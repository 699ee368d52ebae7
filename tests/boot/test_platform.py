# SPDX-License-Identifier: Apache-2.0
"""What firmware and boards do wrong, on machines doctored by QEMU's options: Quire comes up, and says what it found."""
import os

import pytest
from harness import BUILD

pytestmark = pytest.mark.only_vendor("svm", reason="QEMU's options make the machine")

HELLO = {"hello.elf": os.path.join(BUILD, "guests/hello.elf")}


def machine_section(name, *lines):
    return "\n".join([f"[vm {name}]", "kernel = hello.elf", "memory = 16M", "test_ports = on", *lines, ""])


def hello_runs(machine, name="good"):
    """The guest of that name runs to its end."""
    assert machine.monitor.wait_stopped(name) == "exit port 0xf4 value 42"


# ---- processors ----
def second_cpu(lacking):
    """Options for a second processor that lacks a feature which the first one has."""
    return ("-smp", "1,sockets=2,maxcpus=2", "-device", f"max-x86_64-cpu,socket-id=1,core-id=0,thread-id=0,{lacking}=off")


@pytest.mark.parametrize("lacking, words", [
    ("svm", "cpu 1: left out: .*does not offer AMD-V"),
    ("npt", "cpu 1: left out: .*no nested paging"),
    ("smap", "APIC id 1 has no smap.*left out"),
])
def test_cpu_left_out(boot, lacking, words):
    """A processor that can't run guests is given none: not by choice, and not by `cpu =` either."""
    text = machine_section("good") + machine_section("pinned", "cpu = 1") + "[host]\nwhen_idle = poweroff\n"
    machine = boot(text, HELLO, extra=second_cpu(lacking))
    machine.expect(words)
    machine.expect("cpu: 1 of 2 are up")
    machine.expect("vm pinned: not started: cpu = 1: .*CPU")
    hello_runs(machine)
    machine.wait_end()
