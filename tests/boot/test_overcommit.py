# SPDX-License-Identifier: Apache-2.0
"""More is promised than there is: what gets memory back, machines that wait for it and go on, and four Debian guests in the room of two."""
import os

import pytest
from harness import BUILD, guests

from test_fusion import numbers, sums
from test_linux import LINES, attach, back, power_off
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


def attack6(boot, rounds):
    """Two machines of four vcpus stamp memory that is shared, moved, logged and reset meanwhile: the log has all of it, and nothing is left."""
    text = HOST.format(ratio=300) + "fusion_rate = 100000\n" + "".join(
        f"[vm {name}]\nkernel = stamp.elf\nmemory = 32M\ncpus = 4\nlarge_pages = {large}\npage_fusion = on\nshare_group = all\ntest_ports = on\nautostart = off\n"
        f"cmdline = cpus=4 pages=1024 pace=20000\n" for name, large in (("alpha", "on"), ("beta", "off")))
    machine = boot(text, {"stamp.elf": os.path.join(BUILD, "guests/stamp.elf")}, cpus=2, memory=256)
    monitor = machine.monitor.wait_prompt()

    def kept():
        return {key: value for key, value in numbers(monitor, "info chunks").items() if key.split()[0] in ("private", "shared", "table", "reserved")}

    before = kept()
    for name in ("alpha", "beta"):
        monitor.command(f"vm start {name}")
    for _ in range(2):  # whichever is first
        machine.expect(r"round 64\b", 300)
    looks = 0
    for _ in range(rounds):
        for name, other in (("alpha", "beta"), ("beta", "alpha")):
            monitor.command(f"dirtylog {name} on")
            monitor.command(f"dirtylog {name} verify", 300)
            looks += numbers(monitor, "fuse now", 300)["looks"]
            numbers(monitor, "compact", 300)
            monitor.command(f"vm reset {other}")
            monitor.command(f"vm pause {name}")
            compared = numbers(monitor, f"dirtylog {name} verify", 300)
            assert compared["different"] == 0 and compared["compared pages"] > 4096, compared
            monitor.command(f"vm resume {name}")
            monitor.command(f"dirtylog {name} off")
            numbers(monitor, f"dirtylog {name} toggle 5", 300)
        assert monitor.command("check")[-1] == "check: 0 findings"
    assert looks > 1000, looks
    assert not any("FAILED" in line for name in ("alpha", "beta") for line in monitor.console_of(name))
    for name in ("alpha", "beta"):
        monitor.command(f"vm stop {name}")
        monitor.wait_stopped(name, 300)
    assert kept() == before
    assert monitor.command("check")[-1] == "check: 0 findings"


@pytest.mark.slow
@pytest.mark.parametrize("rounds", (1, 20))
def test_attack6_all_at_once(boot, rounds):
    attack6(boot, rounds)
