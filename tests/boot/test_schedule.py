# SPDX-License-Identifier: Apache-2.0
"""Vcpus on several host processors: shares as weights, moves that nobody notices, sets of processors."""
import os
import time

import pytest
from harness import BUILD

from test_nested import GOOD, run_hyper

VECTORS = {"vectors.elf": os.path.join(BUILD, "guests/vectors.elf")}


def busy(name, pattern, more=""):
    """Runs for ever, and compares all of its extended state with its own pattern again and again."""
    return (f"[vm {name}]\nkernel = vectors.elf\nmemory = 16M\ntest_ports = on\n"
            f"cmdline = pattern={pattern} rounds=4000000000\n{more}\n")


def ran(monitor, names):
    """What each has run since, in milliseconds, and what it waited, in one look each."""
    return {name: monitor.json(f"vm info {name}") for name in names}


def wait_run(monitor, name, milliseconds):
    while monitor.json(f"vm info {name}")["run_ms"] < milliseconds:
        time.sleep(0.2)


def shares(monitor, names, milliseconds):
    """How much of a processor each had, in percent, while the last one ran for so long. Each look has its own moment."""
    before = ran(monitor, names)
    wait_run(monitor, names[-1], before[names[-1]]["run_ms"] + milliseconds)
    after = ran(monitor, names)
    return {name: 100 * (after[name]["run_ms"] - before[name]["run_ms"]) / (after[name]["clock_ms"] - before[name]["clock_ms"])
            for name in names}


@pytest.mark.slow  # what it measures needs an emulator that isn't held up
def test_weights_across(boot, vendor):
    """Four machines on two processors, one of weight 200: it gets twice what each other gets, and they move, their state intact."""
    names = ["heavy", "one", "two", "three"]
    text = "[host]\nwhen_idle = monitor\n" + "".join(
        busy(name, 17 * (i + 1), "weight = 200" if not i else "") for i, name in enumerate(names))
    machine = boot(text, VECTORS, cpus=2, memory=256)
    monitor = machine.monitor.wait_prompt()
    monitor.command("mode json")
    for name in names:
        wait_run(monitor, name, 1)
    found = shares(monitor, names, 1500 if vendor == "svm" else 300)
    assert all(1.6 * found[name] <= found["heavy"] <= 2.5 * found[name] for name in names[1:]), found
    assert max(found[name] for name in names[1:]) <= 1.3 * min(found[name] for name in names[1:]), found
    info = ran(monitor, names)
    assert sum(one["moves"] for one in info.values()) > 4 and all(one["waited_ms"] > 0 for one in info.values()), info
    cpus = monitor.json("cpu")["cpus"]
    assert sum(cpu["vcpus"] for cpu in cpus) == 4 and sum(cpu["moves"] for cpu in cpus) > 4, cpus
    monitor.command("mode text")
    for name in names:
        monitor.command(f"vm stop {name}")
        monitor.wait_stopped(name)
        assert not [line for line in monitor.console_of(name) if "FAILED" in line]
    assert monitor.command("check")[-1] == "check: 0 findings"


def test_sets(boot, vendor):
    """Two pinned to one processor and one that may go anywhere: this one has the other processor for itself."""
    names = ["free", "pinned", "set"]
    text = "[host]\nwhen_idle = monitor\n" + busy("free", 1) + busy("pinned", 2, "cpu = 0") + busy("set", 3, "cpu = 0,0-0")
    text += busy("none", 4, "cpu = 0-2")
    machine = boot(text, VECTORS, cpus=2, memory=256)
    machine.expect("vm none: not started: cpu = 2: this host has CPUs 0 to 1")
    monitor = machine.monitor.wait_prompt()
    monitor.command("mode json")
    for name in names:
        wait_run(monitor, name, 1)
    found = shares(monitor, names, 1000 if vendor == "svm" else 200)
    assert found["free"] >= 85 and max(found["pinned"], found["set"]) <= 1.3 * min(found["pinned"], found["set"]), found
    assert monitor.json("info cpu pinned")["vcpus"][0]["host_cpu"] == 0
    assert monitor.json("vm info pinned")["moves"] == monitor.json("vm info set")["moves"] == 0


@pytest.mark.only_vendor("svm", reason="Bochs has no table of memory nodes")
def test_nodes(boot):
    """Processors in sockets of three cores each, whose APIC ids leave holes, in two memory nodes."""
    numa = ["-smp", "6,sockets=2,cores=3,threads=1"]
    for node in range(2):
        numa += ["-object", f"memory-backend-ram,id=m{node},size=256M", "-numa", f"node,cpus={3 * node}-{3 * node + 2},memdev=m{node}"]
    machine = boot("[host]\nwhen_idle = monitor\n" + "".join(busy(f"vm{i}", i + 1) for i in range(6)), VECTORS,
                   cpus=6, memory=512, extra=numa)
    monitor = machine.monitor.wait_prompt()
    monitor.command("mode json")
    for i in range(6):
        wait_run(monitor, f"vm{i}", 1)
    cpus = monitor.json("cpu")["cpus"]
    assert sorted(cpu["apic_id"] for cpu in cpus) == [0, 1, 2, 4, 5, 6]
    assert {cpu["apic_id"]: cpu["node"] for cpu in cpus} == {0: 0, 1: 0, 2: 0, 4: 1, 5: 1, 6: 1}
    assert all(cpu["vcpus"] == 1 for cpu in cpus), cpus


def test_hypervisors_move(boot):
    """Guests that are hypervisors, more of them than processors: both levels' state moves with them."""
    found = run_hyper(boot, ["events", "interrupts", "stale", "chaos", "matrix"], line=" rounds=200", cpus=2)
    assert not {case: said for case, (ended, said) in found.items() if ended != GOOD}
