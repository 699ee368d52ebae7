# SPDX-License-Identifier: Apache-2.0
"""The monitor's commands about memory: on a small guest that works on in PAE, and on Linux at work."""
import base64
import collections
import os
import re
import zlib

from harness import BUILD, guests
from test_linux import LINES, shell

PAGE = 4096
RAM = 48 << 20
LINEAR, PHYSICAL = 0x40000000, 32 << 20
EQUAL = 40 << 20
CONFIG = f"""\
[vm a]
kernel = modes.elf
memory = {RAM >> 20}M
cmdline = stay
large_pages = off
test_ports = on
"""
FILES = {"modes.elf": os.path.join(BUILD, "guests/modes.elf")}


def number(text):
    return int(text, 16)


def stat(monitor, pattern):
    """{name: value} of the counters that match."""
    rows = {row["name"]: row["value"] for row in monitor.json(f"stats {pattern}")["stats"]}
    assert rows, pattern
    return rows


def look_at_tables(monitor):
    """The guest's tables, and the second level's below them."""
    assert monitor.json("info mode a guest")["modes"][0]["guest_mode"] in ("PAE", "PAE_NX")
    everything = monitor.json("info mode all")["modes"][0]
    assert everything["slat_mode"] == "DIRECT" and everything["level"] == "L1" and everything["host_mode"].startswith("AMD64")
    assert set(monitor.json("info mode a host")["modes"][0]) == {"vcpu", "host_mode"}
    top = monitor.json("info pgmcr3 a")["entries"]
    assert [row["index"] for row in top] == [0, 1, 3] and number(top[1]["first_gva"]) == LINEAR

    answer = monitor.json(f"walk a {LINEAR:#x}")
    assert answer["result"] == "mapped" and number(answer["gpa"]) == PHYSICAL
    assert [row["level"] for row in answer["steps"]] == [2, 1, 0]
    of_tables = {row["gpa"] for row in answer["slat"] if row["of"] == "table"}
    assert {row["table_entry_at"] for row in answer["steps"]} == of_tables
    way = [row for row in answer["slat"] if row["of"] == "page"]
    assert [row["level"] for row in way] == [3, 2, 1, 0] and "W" in way[-1]["grants"]
    assert number(way[-1]["entry"]) & 0xffffffffff000 == number(answer["frame"])
    assert "page fault" in monitor.json(f"walk a {LINEAR + PAGE:#x}")["result"]

    levels = {row["level"]: row["tables"] for row in monitor.json("info pool a")["tables"]}
    assert levels[3] == 1 and levels[2] == 1 and levels[0] >= 2
    asserted = monitor.json("pgmassertcr3 a")
    assert asserted["complete"] and asserted["errors"] == 0
    assert asserted["tables"] == 5 and asserted["leaves"] in (64 + 1 + 1 + 3, 64 + 1 + 1 + 4)
    assert asserted["leaves_in_memory"] >= 24 + 1 + 2


def drop_tables(monitor):
    """Tables dropped once and all the time: the guest goes on, and its faults are counted."""
    before = stat(monitor, "a/PGM/CPU0/Fault")["a/PGM/CPU0/Fault"]
    assert monitor.json("vm pause a")["ok"]  # it goes in steps: a running guest would fetch some back
    synced = monitor.json("pgmsync a")
    assert synced["leaves_before"] > 0 and synced["leaves_after"] == 0
    assert monitor.json("vm resume a")["ok"]
    assert monitor.json("pgmsyncalways a")["sync_always"] is True
    for _ in range(3):
        monitor.json("check")
    assert monitor.json("pgmsyncalways a")["sync_always"] is False
    rows = stat(monitor, "a/PGM/CPU0/Fault")
    assert rows["a/PGM/CPU0/Fault"] >= before + 6
    assert rows["a/PGM/CPU0/Fault/Time/SyncPT"] >= 6
    assert rows["a/PGM/CPU0/Fault"] == sum(rows[f"a/PGM/CPU0/Fault/{how}"] for how in ("Resumed", "Emulated", "NoMemory"))
    assert stat(monitor, "a/PGM/Tables/Dropped")["a/PGM/Tables/Dropped"] >= 2


def time_exits(monitor):
    """Exits are timed when asked for, and counters go back to zero."""
    assert all(value == 0 for name, value in stat(monitor, "a/EXIT/*/Cycles").items())
    monitor.json("stats cycles on")
    monitor.json("check")
    timed = stat(monitor, "a/EXIT/*/Cycles")
    assert sum(timed.values()) > 0
    monitor.json("stats cycles off")
    assert monitor.json("stats reset a/EXIT/*")["reset"] == 2 * len(timed)
    assert sum(stat(monitor, "a/EXIT/*/Cycles").values()) == 0


def read_dump(lines):
    """The image that the lines of pgmphystofile describe, as {address: page}, and the CRC of all data."""
    image, crc, zeros = collections.defaultdict(bytes), 0, 0
    for line in lines:
        if line.startswith("z "):
            zeros += number(line.split()[2])
            continue
        where, data, checksum = line.split()[1:]
        data = base64.b64decode(data)
        assert len(data) == 1024 and zlib.crc32(data) == int(checksum, 16), where
        crc = zlib.crc32(data, crc)
        image[number(where) // PAGE * PAGE] += data
    return image, crc, zeros


def look_at_pages(machine, monitor):
    """Equal pages and the dump tell the same, of a machine that stands still."""
    assert monitor.json("vm pause a")["done"] == "paused"
    dumped = monitor.json("pgmphystofile a serial", timeout=600)
    counted = monitor.json("pgmcheckduppages a")
    image, crc, zeros = read_dump(dumped["lines"])
    assert dumped["complete"] and number(dumped["end"]) == RAM and number(dumped["crc32"]) == crc
    assert dumped["data_bytes"] == len(image) * PAGE and dumped["data_bytes"] + zeros == RAM
    words = b"".join((0x5eed0000 + at).to_bytes(4, "little") for at in range(0, PAGE, 4))
    assert [image.get(EQUAL + i * PAGE) == words for i in range(6)] == [True] * 5 + [False]
    ram = collections.Counter(page for where, page in image.items() if not 0xa0000 <= where < 0x100000)
    assert counted["complete"]
    assert counted["unique"] == sum(1 for count in ram.values() if count == 1)
    assert counted["duplicate"] == sum(count for count in ram.values() if count > 1) >= 5
    assert counted["zero_with_frame"] >= 1
    kinds = ("zero", "zero_with_frame", "shared", "unique", "duplicate", "ballooned", "watched")
    assert counted["pages"] == sum(counted[kind] for kind in kinds) == (RAM - 0x60000) // PAGE
    assert monitor.json("vm resume a")["done"] == "resumed"
    assert "error" in monitor.json("pgmphystofile a esp")
    machine.send("pgmphystofile a serial\r\x03")  # Ctrl-C is there before the first step
    found = machine.expect(r'"complete":(true|false)', 60)
    assert found.group(1) == "false"
    monitor.wait_prompt()


def test_commands_about_memory(boot):
    """Each command's answer agrees with what the guest has set up, and with the others' answers."""
    machine = boot(CONFIG, FILES)
    monitor = machine.monitor.wait_prompt()
    if "a| staying" not in machine.text:  # the first prompt may come behind it
        monitor.wait_guest_line("a", "staying")
    monitor.command("mode json")
    look_at_tables(monitor)
    drop_tables(monitor)
    time_exits(monitor)
    look_at_pages(machine, monitor)
    assert monitor.json("check")["findings"] == 0
    assert "hits" not in monitor.json("info handlers a nost")["handlers"][0]
    assert "hits" in monitor.json("info handlers a")["handlers"][0]
    page = monitor.json("page a 0xfee00000")
    assert "local APIC" in page["watched_by"]


def test_linux_is_looked_at(boot, vendor, linux):
    """check, pgmassertcr3, pgmsync and pgmsyncalways on a Linux that works all the while."""
    config = f"[vm l]\nkernel = vmlinuz\ninitrd = initrd.img\nmemory = 192M\ncmdline = {LINES[vendor]}\n"
    machine = boot(config, linux, memory=512)
    monitor = machine.monitor.wait_prompt()
    findings = []
    monitor.command("mode json")
    for _ in range(3):  # while it boots
        findings.append(monitor.json("check", 300)["findings"])
    if not re.search(guests.READY, machine.text):
        monitor.wait_guest_line("l", guests.READY, 900)
    monitor.command("console l", prompt=False)
    machine.send("\r")
    machine.expect(guests.PROMPT)
    shell(machine, "while :; do cp /bin/busybox /tmp/b; rm /tmp/b; done & echo on $?", "^on 0")
    machine.send("\x1d")
    monitor.wait_prompt()
    for _ in range(4):
        findings.append(monitor.json("check", 300)["findings"])
        asserted = monitor.json("pgmassertcr3 l", 300)
        assert asserted["complete"] and asserted["tables"] > 4 and asserted["leaves_in_memory"] > 100
        findings.append(asserted["errors"])
        assert monitor.json("pgmsync l", 300)["leaves_before"] > 0
    assert monitor.json("pgmsyncalways l")["sync_always"] is True
    findings.append(monitor.json("check", 300)["findings"])
    assert monitor.json("pgmsyncalways l")["sync_always"] is False
    assert findings == [0] * len(findings)
    assert re.fullmatch("(AMD64|LA57).*", monitor.json("info mode l guest")["modes"][0]["guest_mode"])
    assert stat(monitor, "l/PGM/CPU0/Fault/Time/SyncPT")["l/PGM/CPU0/Fault/Time/SyncPT/Cycles"] == 0
    counted = monitor.json("pgmcheckduppages l", 600)
    assert counted["complete"] and counted["unique"] > 1000
