# SPDX-License-Identifier: Apache-2.0
"""Unmodified Debian kernels as guests: two at once to their shells, work on their consoles, a clean end."""
import re

import pytest
from harness import guests

LINE = "console=ttyS0,115200 quiet cryptomgr.notests"
# What Bochs needs besides: its time is counted, and mitigations are slow there.
LINES = {"svm": LINE, "kvm": LINE, "vmx": "console=ttyS0,115200 nokaslr mitigations=off panic=-1 quiet cryptomgr.notests"}
ESCAPE = "\x1d"
HEAP_CACHES = 64  # pages that the kernel's heap may keep for the next start; test_guests sees that they don't grow on


def config(vendor, names, memory, when_idle="monitor", autostart="off"):
    return f"[host]\nwhen_idle = {when_idle}\n" + "".join(
        f"[vm {name}]\nkernel = vmlinuz\ninitrd = initrd.img\nmemory = {memory}M\nautostart = {autostart}\n"
        f"cmdline = {LINES[vendor]}\n" for name in names)


def attach(machine, name):
    machine.monitor.command(f"console {name}", prompt=False)
    machine.send("\r")
    machine.expect(guests.PROMPT)


def shell(machine, command, pattern, timeout=600):
    """Runs a command on the attached console and waits for a line of its output."""
    machine.send(command + "\r")
    found = machine.expect(pattern, timeout)
    machine.expect(guests.PROMPT)
    return found


def checked_memory(machine, mib):
    """So much written into the guest's memory and read from there: nothing but what was written, and all of it. (On Bochs a sum of 64 MiB
    takes more than a minute.)"""
    shell(machine, "cd /tmp; printf '%0131072d' 0 | tr 0 Q >a; cat a a a a a a a a >b; cat b b b b b b b b >c; echo made $?", "^made 0")
    shell(machine, f"cat {'c ' * (mib // 8)}>d; rm a b c; echo wrong: $(tr -d Q <d | wc -c) of $(stat -c %s d); rm d",
          f"^wrong: 0 of {mib << 20}\\s")


def back(machine):
    """From a guest's console to the prompt: Ctrl-] leads on from console to console, and at last back."""
    for _ in range(64):
        machine.send(ESCAPE)
        if machine.expect(r"\[console \S+, Ctrl-\] for the next\]|quire> ").group() == "quire> ":
            return
    raise AssertionError(f"Ctrl-] doesn't lead to the monitor\n{machine.tail()}")


def totals(monitor):
    """The host's memory by kind of use, and the kernel's own pages, whose caches a first start fills."""
    found = dict(re.match(r"([a-z ]+): (\d+)$", line).groups() for line in monitor.command("info chunks"))
    kernel = int(found["kernel pages"])
    used = {kind: int(found[kind]) for kind in ("pages", "private pages", "shared pages", "table pages", "reserved pages",
                                                "split chunks", "record bytes")}
    assert int(found["free pages"]) + kernel + used["private pages"] + used["table pages"] == used["pages"]
    return used, kernel


def start(machine, name):
    machine.send(f"vm start {name}\r")
    machine.expect(f"vm {name}: started")


def two_linuxes(machine, names, mib=64):
    monitor = machine.monitor.wait_prompt()
    before, kernel_before = totals(monitor)
    for name in names:
        start(machine, name)
    for name in names:
        if f"{name}| quire-guest: ready" not in machine.text:
            monitor.wait_guest_line(name, guests.READY, 900)
    for name in names:
        attach(machine, name)
        shell(machine, "echo $((6 * 7)) of $(tty)", "^42 of /dev/ttyS0")
        checked_memory(machine, mib)
        back(machine)
    assert monitor.command("check")[-1] == "check: 0 findings"
    power_off(machine, names)
    after, kernel_after = totals(monitor)
    assert after == before
    assert kernel_after <= kernel_before + HEAP_CACHES
    assert monitor.command("check")[-1] == "check: 0 findings"
    monitor.command("poweroff", prompt=False)
    machine.wait_end()


def at_prompt(machine):
    """Whether the console went back to the prompt when its machine stopped."""
    try:
        machine.monitor.wait_prompt(2)
        return True
    except AssertionError:
        return False


def power_off(machine, names):
    """Each by its own shell."""
    for name in names:
        attach(machine, name)
        machine.send("poweroff -f\r")
        assert machine.monitor.wait_stopped(name, 300) == "poweroff"
        if not at_prompt(machine):
            back(machine)


def test_two_linuxes(boot, vendor, linux):
    """Two Debian kernels at once on one host processor, from start to poweroff; all frames come back."""
    names = ("alpha", "beta")
    machine = boot(config(vendor, names, 256), linux, memory=768)
    two_linuxes(machine, names, 32 if vendor == "vmx" else 64)  # on Bochs test_linux_in_secret_free_on_vmx (slow) has the 64


@pytest.mark.only_vendor("svm", reason="QEMU runs its processors at once; Bochs doesn't")
def test_two_linuxes_on_two_processors(boot, vendor, linux):
    """The same on two host processors."""
    names = ("alpha", "beta")
    machine = boot(config(vendor, names, 256), linux, memory=1024, cpus=2)
    two_linuxes(machine, names)


@pytest.mark.only_vendor("svm", reason="Bochs has not got the memory for a machine of 1 GiB")
def test_holds_only_what_it_touched(boot, vendor, linux):
    """A machine of 1 GiB that booted Linux holds a fraction of it."""
    machine = boot(config(vendor, ("big",), 1024, autostart="on"), linux, memory=1536)
    monitor = machine.monitor.wait_prompt()
    monitor.wait_guest_line("big", guests.READY, 600)
    monitor.command("mode json")
    usage = monitor.json("info phys big")["usage"][0]
    assert usage["ram_pages"] == 1 << 18
    assert 0 < usage["private_pages"] < 64 << 10, usage  # less than 256 MiB: large pages round up
    assert usage["private_pages"] + usage["zero_pages"] <= usage["ram_pages"]


@pytest.mark.slow
@pytest.mark.only_vendor("svm", reason="one pass takes too long on Bochs")
def test_memtest(boot, memtest):
    """memtest86+ makes one pass over 64 MiB."""
    text = ("[host]\nwhen_idle = monitor\n[vm memtest]\nkernel = memtest86plus\nmemory = 64M\n"
            "cmdline = console=ttyS0,115200 nosmp onepass\n")
    machine = boot(text, {"memtest86plus": memtest}, memory=512)
    monitor = machine.monitor.wait_prompt()
    monitor.command("console memtest", prompt=False)
    machine.expect(r"Pass:?\s*1|PASS|Pass complete", 1500, refuse="Errors: *[1-9]|FAIL")
