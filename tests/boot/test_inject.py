# SPDX-License-Identifier: Apache-2.0
"""Attack 4 on a running host: each kind of allocation fails, and flushes come late, under a guest that grows.

It waits (`no memory` stands on the monitor) and goes on when memory is back, or never notices; memory holds what was written;
the checks stay silent. A machine that can't be started says why and leaves nothing behind.
"""
import os

import pytest
from harness import BUILD

CONFIG = """\
[vm small]
kernel = grow.elf
memory = 112M
large_pages = off
max_access_handlers = 32
cpu = 1
test_ports = on
[vm large]
kernel = grow.elf
memory = 112M
max_access_handlers = 32
cpu = 1
test_ports = on
[vm fails]
kernel = hello.elf
memory = 32M
max_access_handlers = 32
autostart = off
test_ports = on
"""
FILES = {name: os.path.join(BUILD, "guests", name) for name in ("grow.elf", "hello.elf")}
WAITS = r"vm NAME: vcpu 0 waits for memory: no memory"
GOES_ON = r"vm NAME: vcpu 0 goes on: memory has come back"
# Whose failure leaves a guest on small pages nothing but to wait.
WAITING = ("frame", "handy", "table")


def start(boot):
    machine = boot(CONFIG, FILES, cpus=2, memory=512)
    monitor = machine.monitor.wait_prompt()
    for _ in range(200):  # their lines may have come before the prompt, or come after it
        if all(any("ready" in line for line in monitor.console_of(name)) for name in ("small", "large")):
            break
        monitor.command("vm list")
    monitor.rounds = {"small": 0, "large": 0}
    monitor.command("mode json")
    return monitor


def ask(monitor, text):
    answer = monitor.json(text)
    assert answer["ok"], answer
    return answer


def press(monitor, name):
    """A key to the guest's console, and back to the prompt: the guest's next round begins."""
    monitor.rounds[name] += 1
    monitor.command(f"console {name}", prompt=False)
    monitor.machine.expect(r"\[console " + name)
    monitor.machine.send("g")
    monitor.machine.expect(rf"round {monitor.rounds[name]} begins")
    for _ in range(4):  # Ctrl-] leads from console to console, and at last back
        monitor.machine.send("\x1d")
        if "[monitor]" in monitor.machine.expect(r"\[(console \w+|monitor)").group(0) + "]":
            break


def holds(monitor, name):
    return rf"{name}\| round {monitor.rounds[name]} holds"


def sites(monitor):
    return {row["site"]: row for row in ask(monitor, "pgmerror")["sites"]}


def grow_under(monitor, name, site, plan):
    """One round with the site armed; returns whether the guest had to wait, and how often the site failed."""
    ask(monitor, f"pgmerror {site} {plan}")
    press(monitor, name)
    waits = WAITS.replace("NAME", name)
    waited = "waits" in monitor.machine.expect(f"{waits}|{holds(monitor, name)}").group(0)
    hits = sites(monitor)[site]["hits"]
    ask(monitor, f"pgmerroroff {site}")
    if waited:
        monitor.machine.expect(GOES_ON.replace("NAME", name))
        monitor.machine.expect(holds(monitor, name))
    assert ask(monitor, "check")["findings"] == 0
    return waited, hits


def sweep(monitor, afters):
    for site in sites(monitor):
        for after in afters:
            waited, hits = grow_under(monitor, "small", site, f"after={after} vm=small" if site != "heap" else "")
            assert not waited or hits, (site, after)
            if not after and site in WAITING:
                assert waited and hits, site
            if not after and site == "flush":
                assert hits and not waited
            if site == "heap":
                assert not waited, "growing takes no heap"
    waited, hits = grow_under(monitor, "large", "large", "after=0")
    assert hits and not waited, "small pages do as well"


def test_attack4_guest_waits(boot):
    """Each site from its first passage on, and one failing three times by itself."""
    monitor = start(boot)
    ask(monitor, "pgmerror table count=3 vm=small")
    press(monitor, "small")
    monitor.machine.expect(GOES_ON.replace("NAME", "small"))
    monitor.machine.expect(holds(monitor, "small"))
    assert sites(monitor)["table"]["state"] == "off"
    sweep(monitor, (0,))
    for wrong in ("pgmerror nothing", "pgmerror table often=1", "pgmerror table after=x", "pgmerror heap vm=small",
                  "pgmerror table vm=nobody", "pgmerroroff nothing"):
        assert not monitor.json(wrong)["ok"], wrong
    assert all(row["state"] == "off" for row in sites(monitor).values())
    assert ask(monitor, "check")["findings"] == 0


@pytest.mark.slow
def test_attack4_guest_waits_swept(boot):
    """From the second, fourth, tenth passage on, at every site."""
    sweep(start(boot), (1, 3, 9))


def settle(monitor):
    """Idle processors fill the running machines' reserves; waits until that is over."""
    same, last = 0, None
    while same < 10:
        now = ask(monitor, "info chunks")["private_pages"]
        same, last = (same + 1, now) if now == last else (0, now)


def start_fails(monitor, step):
    """Starts a machine with each site's 1st, 2nd ... passage failing, until it starts in spite of it."""
    settle(monitor)
    before = None
    for site in ("heap", "table"):
        after = failed = 0
        while True:
            ask(monitor, f"pgmerror {site} after={after} count=1")
            waits = ask(monitor, "vm start fails")["done"] != "started"
            monitor.wait_stopped("fails")  # waits: it was started again
            hits = sites(monitor)[site]["hits"]
            ask(monitor, "pgmerroroff")
            assert hits or not waits
            failed += waits
            now = ask(monitor, "info chunks")
            now = {key: now[key] for key in ("private_pages", "table_pages", "reserved_pages", "large_chunks")}
            before = before or now
            assert now == before, (site, after)
            if not hits:
                break
            after += step
        assert failed > (4 if site == "heap" else 0), site
    assert ask(monitor, "check")["findings"] == 0


def test_attack4_start_fails(boot):
    """A machine that can't have its memory is started a little later, and all is as before; or is given up, or stopped meanwhile."""
    monitor = start(boot)
    start_fails(monitor, 7)
    ask(monitor, "pgmerror heap")
    assert ask(monitor, "vm start fails")["done"] == "waits for memory to start"
    assert "waiting" in [row["state"] for row in ask(monitor, "vm list")["machines"] if row["name"] == "fails"]
    monitor.machine.expect("vm fails: not started: .*no free memory")
    assert ask(monitor, "vm start fails")["done"] == "waits for memory to start"
    ask(monitor, "vm stop fails")
    assert not monitor.json("vm stop fails")["ok"]
    ask(monitor, "pgmerroroff")
    assert ask(monitor, "vm start fails")["done"] == "started"
    monitor.wait_stopped("fails")


@pytest.mark.slow
def test_attack4_start_fails_swept(boot):
    """At every single passage."""
    start_fails(start(boot), 1)
