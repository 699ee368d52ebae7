# SPDX-License-Identifier: Apache-2.0
"""More is promised than there is: what gets memory back, machines that wait for it and go on, and four Debian guests in the room of two."""
import os
import re

import pytest
from harness import BUILD, guests

from test_fusion import numbers, sums
from test_linux import LINES, attach, back, power_off
from test_nested import quirks
from test_pci import MODULES, ask

HOST = "[host]\nwhen_idle = monitor\novercommit = ratio\novercommit_ratio = {ratio}\n"
GOOD = "exit port 0xf4 value 42"


def squeeze(name, mib, line, more=""):
    return (f"[vm {name}]\nkernel = squeeze.elf\nmemory = 256M\ntest_ports = on\ncmdline = mib={mib} {line}\n"
            f"page_fusion = on\nshare_group = all\n{more}\n")


def counters(monitor, pattern):
    rows = (line.split() for line in monitor.command(f"stats {pattern}"))
    return {row[0]: int(row[1]) for row in rows if row and row[0].startswith("/")}


def test_room_is_made(boot):
    """Equal pages of two machines make room for a third; a fourth waits until that one has ended, and goes on. All find what they wrote."""
    text = HOST.format(ratio=500) + squeeze("alpha", 90, "kinds=8") + squeeze("beta", 90, "kinds=8")
    text += squeeze("gamma", 130, "kinds=0 name=1", "autostart = off") + squeeze("delta", 130, "kinds=0 name=2", "autostart = off")
    machine = boot(text, {"squeeze.elf": os.path.join(BUILD, "guests/squeeze.elf")}, memory=256)
    monitor = machine.monitor.wait_prompt()
    for _ in ("alpha", "beta"):  # whichever is first
        machine.expect("filled 23040 pages", 300)
    monitor.command("vm start gamma")
    monitor.wait_guest_line("gamma", "filled 33280 pages", 300)
    ask(machine, "info memory", "free for guests mib", lambda free: free > 14)
    monitor.command("vm start delta")
    machine.expect("log.*vm delta: vcpu 0 waits for memory", 300)
    assert counters(monitor, "Pressure")["/GMM/Pressure/Times"] > 0
    fields = numbers(monitor, "info memory")
    assert fields["free for guests mib"] < fields["memory mib"] / 10 and fields["promised percent"] > 200
    use = {row[0]: row for row in map(str.split, monitor.command("vm list")) if row}
    held, shared = (sum(int(use[name][column]) for name in ("alpha", "beta")) for column in (-4, -3))
    assert shared > 80 and held + shared >= 170, use
    monitor.command("type gamma x")
    assert monitor.wait_stopped("gamma", 300) == GOOD
    monitor.wait_guest_line("delta", "filled 33280 pages", 300)
    assert monitor.command("check")[-1] == "check: 0 findings"
    for name in ("delta", "alpha", "beta"):
        monitor.command(f"type {name} x")
        assert monitor.wait_stopped(name, 300) == GOOD
    assert numbers(monitor, "info chunks")["shared pages"] == 0
    assert monitor.command("check")[-1] == "check: 0 findings"


ROOM = (("alpha", 180), ("beta", 16))  # MiB that each fills


def test_room_for_a_start(boot):
    """One machine's equal pages fill the host, and nobody may look for them: so another's start waits. Once one may, pressure finds them, and
    that machine starts by itself."""
    text = HOST.format(ratio=500) + "".join(squeeze(name, mib, f"kinds=8 name={i}", "autostart = off") for i, (name, mib) in enumerate(ROOM))
    machine = boot(text, {"squeeze.elf": os.path.join(BUILD, "guests/squeeze.elf")}, memory=192)
    monitor = machine.monitor.wait_prompt()
    monitor.command("fuse off")
    monitor.command("vm start alpha")
    machine.expect("log.*vm alpha: vcpu 0 waits for memory", 300)
    assert monitor.command("vm start beta")[-1] == "vm beta: waits for memory to start"
    monitor.command("fuse on")
    machine.expect("vm beta: started", 300)
    assert counters(monitor, "Pressure")["/GMM/Pressure/Fusions"] > 0
    for name, _ in ROOM:
        monitor.command(f"type {name} x")
        assert monitor.wait_stopped(name, 300) == GOOD
    assert numbers(monitor, "info chunks")["shared pages"] == 0
    assert monitor.command("check")[-1] == "check: 0 findings"


def test_chunks_come_back(boot):
    """What is left of chunks after a search for equal pages moves together, and whole chunks come back; the guest finds all as it was."""
    machine = boot(HOST.format(ratio=200) + squeeze("alpha", 12, "kinds=8 apart=16"), {"squeeze.elf": os.path.join(BUILD, "guests/squeeze.elf")}, memory=256)
    monitor = machine.monitor.wait_prompt()
    monitor.wait_guest_line("alpha", "filled 3072 pages", 300)
    numbers(monitor, "fuse now", 300)
    answer = numbers(monitor, "compact", 300)
    emptied = counters(monitor, "/GMM/Chunks*")
    print(answer, emptied)
    assert emptied["/GMM/ChunksEmptied"] >= 3
    monitor.command("type alpha x")
    assert monitor.wait_stopped("alpha", 300) == GOOD
    assert monitor.command("check")[-1] == "check: 0 findings"


def test_modules(boot):
    """What two guests name is shared long before a search would come by; in another group the same is not, and is not even looked at for
    their sake. Writes afterwards are each one's own."""
    same = "kinds=0 name=9 module=256"
    text = HOST.format(ratio=200) + "fusion_rate = 500\n" + squeeze("alpha", 20, same) + squeeze("beta", 20, same)
    text += squeeze("gamma", 20, same).replace("share_group = all", "share_group = own")
    machine = boot(text, {"squeeze.elf": os.path.join(BUILD, "guests/squeeze.elf")}, memory=512)
    monitor = machine.monitor.wait_prompt()
    for _ in range(3):
        machine.expect("named 256 pages", 300)
    ask(machine, "info chunks", "shared pages", lambda shared: shared >= 256)
    rows = {row[0]: row for row in map(str.split, monitor.command("pgmsharedmodules")) if len(row) == 5}
    print(rows, counters(monitor, "*ShMod*"))
    assert {name: rows[name][1:] for name in ("alpha", "beta", "gamma")} == {
        name: ["0x9", "0x1000000", "256", shared] for name, shared in (("alpha", "256"), ("beta", "256"), ("gamma", "0"))}
    assert monitor.command("check")[-1] == "check: 0 findings"
    monitor.command("vm reset gamma")
    monitor.wait_guest_line("gamma", "named 256 pages", 300)
    for name in ("alpha", "beta", "gamma"):
        monitor.command(f"type {name} x")
        assert monitor.wait_stopped(name, 300) == GOOD
    assert numbers(monitor, "info chunks")["shared pages"] == 0
    assert monitor.command("check")[-1] == "check: 0 findings"


def host_of_equals(boot, linux, names, memory):
    """Debian guests of 256 MiB that may share, none started. Without KASLR, which gives each kernel's text other bytes."""
    initrd = guests.initramfs("--modules", *MODULES, name="initrd-pci.img")
    line = LINES["vmx"]
    assert "nokaslr" in line
    text = HOST.format(ratio=100 * len(names)) + "".join(
        f"[vm {name}]\nkernel = vmlinuz\ninitrd = initrd-pci.img\nmemory = 256M\nballoon = on\npage_fusion = on\nshare_group = all\n"
        f"autostart = off\ncmdline = {line}\n" for name in names)
    machine = boot(text, {"vmlinuz": linux["vmlinuz"], "initrd-pci.img": initrd}, memory=memory)
    machine.monitor.wait_prompt()
    return machine


def pages_held(monitor):
    answer = numbers(monitor, "info chunks")
    return answer["private pages"] + answer["shared pages"]


def end_of_equals(machine, names, found):
    """Their files are still as they were, nothing is wrong, and nothing is left of them."""
    assert set(sums(machine, names)) == found
    assert machine.monitor.command("check")[-1] == "check: 0 findings"
    power_off(machine, names)
    assert numbers(machine.monitor, "info chunks")["shared pages"] == 0


@pytest.mark.slow
def test_four_in_the_room_of_two(boot, linux):
    """Four equal Debian guests of 256 MiB on a host of 512 MiB: all boot, each finds its files as they are; and all of them hold little
    more than one alone did when it had booted."""
    names = ("alpha", "beta", "gamma", "delta")
    machine = host_of_equals(boot, linux, names, 512)
    monitor = machine.monitor
    monitor.command("fuse off")
    held = []
    for name in names:
        monitor.command(f"vm start {name}")
        monitor.wait_guest_line(name, guests.READY, 900)
        held.append(pages_held(monitor))
    found = set(sums(machine, names))
    assert len(found) == 1
    for name in names:
        monitor.command(f"balloon {name} collect")
        ask(machine, f"balloon {name}", "told free mib", lambda told: told > 0)
    held.append(pages_held(monitor))
    monitor.command("fuse on")
    answer = numbers(monitor, "fuse now", 900)
    held.append(pages_held(monitor))
    print("pages held:", held, "of one's:", held[-1] / held[0], answer)
    print("\n".join(monitor.command("info memory")), counters(monitor, "Pressure"))
    assert held[-1] <= 1.3 * held[0]
    end_of_equals(machine, names, found)


@pytest.mark.slow
def test_sixteen_in_one_gib(boot, linux):
    """Sixteen of them on a host of 1 GiB, which has no room for what they touch while they boot: pressure makes it."""
    names = tuple(f"guest{i}" for i in range(16))
    machine = host_of_equals(boot, linux, names, 1024)
    monitor = machine.monitor
    held = []
    for name in names:
        monitor.command(f"vm start {name}")
        monitor.wait_guest_line(name, guests.READY, 900)
        held.append(pages_held(monitor))
    found = set(sums(machine, names))
    assert len(found) == 1
    held.append(pages_held(monitor))
    print("pages held:", held, numbers(monitor, "fuse now", 900), pages_held(monitor))
    print("\n".join(monitor.command("info memory")), counters(monitor, "Pressure"))
    end_of_equals(machine, names, found)


STAMPERS = ("alpha", "beta")
CHURN = (("balloon", "held mib", 0, 2), ("vm memory", "now mib", 32, 44))  # what the host wants of gamma, and where it sees what it has


def attack6_host(boot, rounds):
    """Two machines stamp memory, a third's comes and goes, the fourth is a hypervisor with random L2s; and a processor that is free to look for pages."""
    shared = "cpus = 4\ncpu = 1-2\npage_fusion = on\nshare_group = all\ntest_ports = on\nautostart = off\n"
    text = HOST.format(ratio=300) + "fusion_rate = 100000\n" + "".join(
        f"[vm {name}]\nkernel = stamp.elf\nmemory = 32M\nlarge_pages = {large}\n{shared}"
        f"cmdline = cpus=4 pages=1024 pace=20000\n" for name, large in zip(STAMPERS, ("on", "off")))
    text += f"[vm gamma]\nkernel = churn.elf\nmemory = 32M\nmemory_max = 44M\nballoon = on\nweight = 400\n{shared}cmdline = cpus=4\n"
    text += f"[vm delta]\nkernel = hyper.elf\nmemory = 64M\nnested = on\n{shared}cmdline = {quirks(boot.machine_class)} crowd cpus=4 millions={int(10 * rounds)}\n"
    return boot(text, {f"{name}.elf": os.path.join(BUILD, f"guests/{name}.elf") for name in ("stamp", "churn", "hyper")}, cpus=3, memory=256)


def churned(monitor):
    """What gamma's pages have gone through since it was reset last, by its guest's and by the host's count."""
    monitor.command("type gamma x")
    assert monitor.wait_stopped("gamma", 300) == GOOD, monitor.console_of("gamma")
    said = [line for line in monitor.console_of("gamma") if line.startswith("churned")][-1]
    return [int(number) for number in re.findall(r"\d+", said)]


def churn(machine, number):
    """Waits until gamma's guest has done half of what the host wanted last, and wants the opposite: more in its balloon and more memory, or less."""
    up = number % 2 == 0
    for command, what, least, most in CHURN:
        if number:
            ask(machine, f"{command} gamma", what, lambda now, half=(least + most) / 2: (now < half) == up)
        machine.monitor.command(f"{command} gamma {most if up else least}")


def attack6_round(machine, number):
    """Returns how many pages were looked at to be shared."""
    monitor, looks = machine.monitor, 0
    for name, other in (STAMPERS, STAMPERS[::-1]):
        churn(machine, number)
        monitor.command(f"dirtylog {name} on")
        monitor.command(f"dirtylog {name} verify", 300)
        looks += numbers(monitor, "fuse now", 300)["looks"]
        numbers(monitor, "compact", 300)
        monitor.command(f"vm reset {other}")
        number += 1
        for logged in ("gamma", "delta"):  # pages of who is logged aren't looked at to be shared
            monitor.command(f"dirtylog {logged} on")
        for logged, least in ((name, 4096), ("gamma", 1024), ("delta", 1)):
            monitor.command(f"vm pause {logged}")
            compared = numbers(monitor, f"dirtylog {logged} verify", 300)
            assert compared["different"] == 0 and compared["compared pages"] > least, (logged, compared)
            monitor.command(f"vm resume {logged}")
            monitor.command(f"dirtylog {logged} off")
            numbers(monitor, f"dirtylog {logged} toggle 5", 300)
    assert monitor.command("check")[-1] == "check: 0 findings"
    return looks


def attack6(boot, rounds):
    """Four machines of four vcpus; memory is shared, moved, logged, ballooned, plugged and reset meanwhile: the log has all of it, all contents are as
    each guest expects them, and nothing is left."""
    machine = attack6_host(boot, rounds)
    monitor = machine.monitor.wait_prompt()

    def kept():
        return {key: value for key, value in numbers(monitor, "info chunks").items() if key.split()[0] in ("private", "shared", "table", "reserved")}

    before = kept()
    for name in (*STAMPERS, "gamma", "delta"):
        monitor.command(f"vm start {name}")
    for _ in STAMPERS:  # whichever is first
        machine.expect(r"round 64\b", 300)
    looks = sum(attack6_round(machine, 2 * number) for number in range(rounds))
    shared, emptied = (sum(int(line.split()[1]) for line in monitor.command(f"stats *{pattern}*") if f"/GMM/{pattern}" in line)
                       for pattern in ("Fusion/Shared", "ChunksEmptied"))
    print(looks, "looks", shared, "began to share,", emptied, "chunks emptied")
    counts = churned(monitor)
    print("gamma's pages given, taken back, its blocks plugged, unplugged:", counts)
    assert looks > 1000 and all(counts)
    assert monitor.wait_stopped("delta", 600) == GOOD, monitor.console_of("delta")
    assert not any("FAILED" in line for name in STAMPERS for line in monitor.console_of(name))
    for name in STAMPERS:
        monitor.command(f"vm stop {name}")
        monitor.wait_stopped(name, 300)
    assert kept() == before
    assert monitor.command("check")[-1] == "check: 0 findings"


@pytest.mark.slow
@pytest.mark.parametrize("rounds", (1, 20))
def test_attack6_all_at_once(boot, rounds):
    attack6(boot, rounds)
