# SPDX-License-Identifier: Apache-2.0
"""The dirty log under a guest that stamps its memory, in every way that the vendor has: nothing is lost.

`dirtylog NAME verify` keeps a copy of the machine that it updates by the log alone; while the machine is paused, it compares
the copy with the machine. A write that the log missed is a difference.
"""
import os

import pytest
from harness import BUILD

WAYS = {"svm": ["ad", "wp"], "vmx": ["pml", "ad", "wp"]}
PAGES = {"large": "on", "small": "off"}
CONFIG = """
[vm {name}]
kernel = stamp.elf
memory = 32M
large_pages = {pages}
cpus = {cpus}
cpu = 1-{hosts}
cmdline = cpus={cpus}
test_ports = on
"""


def start(boot, name, cpus=1, hosts=1):
    """A machine of so many vcpus on so many host processors; the monitor has one for itself."""
    path = os.path.join(BUILD, "guests/stamp.elf")
    machine = boot(CONFIG.format(name=name, pages=PAGES[name], cpus=cpus, hosts=hosts), {"stamp.elf": path}, cpus=1 + hosts)
    monitor = machine.monitor.wait_prompt()
    monitor.wait_guest_line(name, r"round 64\b")
    monitor.command("mode json")
    return monitor


def log(monitor, name, *words, timeout=None):
    answer = monitor.json(f"dirtylog {name} {' '.join(words)}", timeout)
    assert answer["ok"], answer
    return answer


def pause(monitor, name):
    assert monitor.json(f"vm pause {name}")["ok"]


def resume(monitor, name):
    assert monitor.json(f"vm resume {name}")["ok"]


def verify_paused(monitor, name):
    """Compares at rest."""
    answer = log(monitor, name, "verify")
    assert answer["compared"] and answer["different"] == 0, answer
    assert answer["compared_pages"] > 4096
    return answer


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PAGES))
def test_nothing_is_lost(boot, vendor, name):
    """Rounds of logging and comparing, in each way, with large pages and without; on and off 1000 times meanwhile."""
    monitor = start(boot, name)
    for way in WAYS[vendor]:
        assert log(monitor, name, "on", way)["mode"] == way
        log(monitor, name, "verify")
        seen = 0
        for _ in range(2):
            seen += log(monitor, name, "verify")["pages"]
            pause(monitor, name)
            seen += verify_paused(monitor, name)["pages"]
            resume(monitor, name)
        assert seen > 0, "the guest writes all the time"
        log(monitor, name, "off")
    answer = log(monitor, name, "toggle", "1000", timeout=600)
    assert answer["times"] == 1000 and answer["mode"] == "off"
    log(monitor, name, "on")
    log(monitor, name, "verify")
    pause(monitor, name)
    verify_paused(monitor, name)
    assert monitor.json("check")["findings"] == 0
    log(monitor, name, "off")
    assert monitor.json("check")["findings"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PAGES))
def test_nothing_is_lost_of_four(boot, vendor, name):
    """Four vcpus stamp the same pages on two processors; what the log says, in each way, is all that they wrote."""
    monitor = start(boot, name, 4, 2)
    for way in WAYS[vendor]:
        assert log(monitor, name, "on", way)["mode"] == way
        log(monitor, name, "verify")
        seen = log(monitor, name, "verify")["pages"]
        pause(monitor, name)
        assert seen + verify_paused(monitor, name)["pages"] > 0
        resume(monitor, name)
        log(monitor, name, "off")
    assert monitor.json("check")["findings"] == 0
