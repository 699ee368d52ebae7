# SPDX-License-Identifier: Apache-2.0
"""Much memory and little: a TiB that is mostly promised, and memory that is all there before the first instruction."""
import os

from harness import BUILD

FILES = {f"{name}.elf": os.path.join(BUILD, f"guests/{name}.elf") for name in ("hello", "hlt", "touch2m", "stamp")}
CONFIG = """\
[host]
overcommit = ratio
overcommit_ratio = 500000
[vm big]
kernel = hlt.elf
cmdline = wait
memory = 1T
test_ports = on
[vm full]
kernel = hlt.elf
cmdline = wait
memory = 65M
ram_preallocate = on
test_ports = on
[vm never]
kernel = hello.elf
memory = 8G
ram_preallocate = on
autostart = off
"""


def test_attack14_tebibyte_and_preallocation(boot):
    """Attack 14 on a 512 MiB host: info phys answers, nothing is left behind, too much at once is refused."""
    machine = boot(CONFIG, FILES, memory=512)
    monitor = machine.monitor.wait_prompt()
    machine.expect(r"big\| waiting[\s\S]*full\| waiting|full\| waiting[\s\S]*big\| waiting")
    monitor.command("mode json")
    usage = str(monitor.json("info phys"))
    assert f"'ram_pages': {2**40 // 4096}" in usage, usage
    assert f"'ram_pages': {65 * 256}" in usage, usage
    assert f"'private_pages': {65 * 256 - 96}" in usage, usage  # all but the hole below 1 MiB
    answer = monitor.json("vm start never")
    assert "ram_preallocate" in str(answer), answer
    monitor.command("vm stop big")
    monitor.wait_stopped("big")
    monitor.command("vm stop full")
    monitor.wait_stopped("full")
    monitor.command("mode text")
    assert monitor.command("check")[-1] == "check: 0 findings"


BUSY = """\
[host]
overcommit = ratio
overcommit_ratio = 500000
[vm big]
kernel = hlt.elf
cmdline = wait
memory = 1T
test_ports = on
[vm touch]
kernel = touch2m.elf
cmdline = wait
memory = 128M
autostart = off
test_ports = on
[vm stamp]
kernel = stamp.elf
memory = 48M
large_pages = off
autostart = off
test_ports = on
"""
# Instructions with interrupts off. A fault clears at most 512 KiB, a step of work a bit of it; what the monitor does at a time may
# load a kernel or make a TiB's directory.
BOUNDS = {"fault": 80_000, "work": 40_000, "housekeeping": 1_500_000}


def test_attack14_longest_stretch(boot, vendor, capsys):
    """The longest stretch with interrupts off, counted in instructions, while machines start, fault and are taken apart."""
    machine = boot(BUSY, FILES, memory=512, qemu={"icount": 7})
    monitor = machine.monitor.wait_prompt()
    for _ in range(2):  # the second time beside a machine that faults
        monitor.command("vm start touch")
        monitor.wait_guest_line("touch", "touched 56 blocks")
        monitor.command("vm start stamp")
        monitor.command("vm stop touch")
        monitor.wait_stopped("touch")
        monitor.command("vm stop stamp")
        monitor.wait_stopped("stamp")
    monitor.command("vm stop big")
    monitor.wait_stopped("big")
    monitor.command("mode json")
    ticks = monitor.json("cpu")["cpus"][0]
    counted = {name: ticks[name] >> (7 if vendor == "svm" else 0) for name in BOUNDS}
    with capsys.disabled():
        print(f"\nlongest stretches with interrupts off, in instructions, {vendor}: {counted}")
    assert all(0 < counted[name] <= bound for name, bound in BOUNDS.items()), counted
    assert monitor.json("check")["findings"] == 0


CODE = """\
[host]
executable_large_pages = off
[vm stamp]
kernel = stamp.elf
memory = 48M
test_ports = on
[vm touch]
kernel = touch2m.elf
cmdline = wait
memory = 128M
test_ports = on
"""
RUN = ("execdata", "modes", "smc")


def test_no_code_in_large_pages(boot):
    """As on a processor with iTLB multihit: large pages are for data, guests run as ever, and no large leaf may be executed."""
    files = {**FILES, **{f"{name}.elf": os.path.join(BUILD, f"guests/{name}.elf") for name in RUN}}
    more = "".join(f"[vm {name}]\nkernel = {name}.elf\nmemory = 48M\ntest_ports = on\n" for name in RUN)
    machine = boot(CODE + more, files, memory=512)
    assert "guests' large pages hold no code" in machine.monitor.wait_prompt().machine.text
    monitor = machine.monitor
    for name in RUN:
        if f"vm {name}: stopped" not in machine.text:
            monitor.wait_stopped(name)
        assert f"vm {name}: stopped (exit port 0xf4 value 42)" in machine.text
    if "touch| touched 56 blocks" not in machine.text:
        monitor.wait_guest_line("touch", "touched 56 blocks")
    monitor.command("mode json")
    usage = {row["machine"]: row for row in monitor.json("info phys touch")["usage"]}["touch"]
    assert usage["large_blocks"] >= 50 and usage["detailed_blocks"] >= 1, usage
    assert monitor.json("check")["findings"] == 0
