# SPDX-License-Identifier: Apache-2.0
"""The small guests of tests/guests, from one list, on each vendor.

Starting the firmware is what costs time, so one boot carries all that can live side by side. Every guest judges by
itself and says so by the value it ends with; the host's side is judged where memory is the matter.
"""
import collections
import os
import re

import pytest
from harness import BUILD

Case = collections.namedtuple("Case", "name guest memory line reason lines", defaults=("", "exit port 0xf4 value 42", ()))
GOOD = "exit port 0xf4 value 42"
CASES = [
    Case("hello", "hello", 16, "a b=c", lines=["hello from a guest, command line: hello.elf a b=c", "hello by port 0xe9"]),
    Case("exit8", "hello", 16, "value=200", "exit port 0xf4 value 200"),
    Case("exit32", "hello", 16, "value=4000000000", "exit port 0xf4 value 4000000000"),
    Case("cpuid", "cpuid", 16, lines=["hypervisor QuireQuireQu"]),
    Case("ports", "ports", 16, lines=["written by outsb"]),
    Case("mmio", "mmio", 16),
    Case("nobody", "nobody", 16),
    Case("msr", "msr", 16, lines=["apic base 0xfee00900"]),
    Case("pit", "pit", 16),
    Case("apic-timer", "apic_timer", 16, lines=["xAPIC periodic", "x2APIC periodic", "xAPIC again deadline"]),
    Case("ticks", "ticks", 16),
    Case("hlt", "hlt", 16),
    Case("modes", "modes", 48, lines=["real mode", "hello from real mode", "32-bit paging", "PAE", "4 levels"]),
    Case("execdata", "execdata", 48),
    Case("smc", "smc", 16),
    Case("touch2m", "touch2m", 128, lines=["touched 56 blocks"]),
    Case("litmus", "litmus", 32, "rounds=1000", lines=["litmus: 1000 rounds, 0 stale"]),
    Case("litmus-blocks", "litmus", 128, "block", lines=["litmus: 56 rounds, 0 stale"]),
    Case("registers", "registers", 16),
    Case("step", "step", 16, lines=["18 steps"]),
    Case("debug", "debug", 16),
    Case("nmi", "nmi", 16),
    Case("triple", "triple", 16, "", "triple fault"),
    Case("triple-ud2", "triple", 16, "ud2", "triple fault"),
    Case("stack-in-device", "triple", 16, "stack", "error event 0x6 can't be delivered by way of gpa 0xfec00000: no plain memory"),
    Case("reset-cf9", "reset", 16, "cf9", "reset"),
    Case("reset-i8042", "reset", 16, "i8042", "reset"),
    Case("reset-port92", "reset", 16, "port92", "reset"),
    Case("poweroff", "poweroff", 16, "", "poweroff"),
    Case("wake", "wake", 16, lines=["woken by the clock"]),
]
SMALL_PAGES = [Case(case.name, case.guest, case.memory, case.line, case.reason, case.lines)
               for case in CASES if case.guest in ("modes", "execdata", "smc", "touch2m", "litmus", "hello")]


def elf(name):
    return os.path.join(BUILD, f"guests/{name}.elf")


def section(name, guest, memory, line="", more=""):
    return (f"[vm {name}]\nkernel = {guest}.elf\nmemory = {memory}M\ntest_ports = on\n"
            + (f"cmdline = {line}\n" if line else "") + more)


def config(cases, more="", when_idle="poweroff"):
    return f"[host]\nwhen_idle = {when_idle}\n" + "".join(
        section(case.name, case.guest, case.memory, case.line, more) for case in cases)


def processors(boot, count):
    """That many of the host's processors for machines: a line of theirs, and how many there must be. QEMU's first one is left to the
    host: the flags of a guest in there are overwritten by other processors' restoring of their FPU (docs/testing.md)."""
    if boot.machine_class.vendor != "svm" or count == 1:
        return "", count
    return f"cpu = 1-{count}\n", count + 1


def files(cases):
    return {f"{case.guest}.elf": elf(case.guest) for case in cases}


def judge(machine, cases):
    """Waits until the hypervisor has powered off; every machine must have ended as its case says."""
    machine.wait_end()
    found = {match.group(1): match.group(2)
             for match in re.finditer(r"^vm ([a-z0-9-]+): stopped \(([^\n]*)\)$", machine.text, re.MULTILINE)}
    wrong = []
    for case in cases:
        said = machine.monitor.console_of(case.name)
        if found.get(case.name) != case.reason:
            wrong.append(f"{case.name}: {found.get(case.name)}, not {case.reason}; it said {said}")
        wrong += [f"{case.name} did not say {line!r}; it said {said}" for line in case.lines
                  if line not in said and line not in "".join(said)]  # a slow guest's line may come in two
        wrong += [f"{case.name}: {line}" for line in said if "FAILED" in line or "EXCEPTION" in line]
    assert not wrong, "\n".join(wrong)


def test_interrupts_come_once(boot):
    """Timers strike in the handler of an interrupt just injected: counted by instructions, QEMU then delivers it again (svm/quirks.h)."""
    case = Case("once", "once", 16, lines=[", 0 in their own handler"])
    judge(boot(config([case]), files([case]), qemu={"icount": 7}), [case])


@pytest.mark.only_vendor("vmx", reason="QEMU switches tasks by itself, and hangs where a switch meets a page that the hypervisor hasn't mapped")
def test_task_switches(boot):
    """Hardware task switches, where the processor only reports them."""
    cases = [Case("tasks", "tasks", 16)]
    judge(boot(config(cases), files(cases), memory=256), cases)


BOCHS_AMD = {"memory": 256, "model": "zambezi", "ignore_bad_msrs": True}


@pytest.mark.only_vendor("vmx", reason="Bochs, as a processor of AMD's: QEMU carries task switches out by itself")
def test_task_switches_of_svm(boot):
    """The same where SVM reports them. Alone: of INT n by a task gate Bochs tells what an earlier delivery left."""
    cases = [Case("tasks", "tasks", 16, "protected")]
    judge(boot(config(cases), files(cases), **BOCHS_AMD), cases)


@pytest.mark.only_vendor("vmx", reason="Bochs, as a processor of AMD's")
def test_leftover_trap(boot):
    """A guest's single-step trap that Bochs keeps over the exit does not end the host. The guest misses bits of DR6."""
    case = Case("step", "step", 16)
    machine = boot(config([case]), files([case]), **BOCHS_AMD)
    machine.wait_end()
    assert "18 steps" in machine.monitor.console_of("step")


def test_all(boot):
    """Every guest, in one boot: triple faults and resets beside machines that go on."""
    machine = boot(config(CASES), files(CASES), memory=1000)
    judge(machine, CASES)


def test_small_pages(boot):
    """Those that concern memory, with 4 KiB pages only."""
    machine = boot(config(SMALL_PAGES, "large_pages = off\n"), files(SMALL_PAGES), memory=768)
    judge(machine, SMALL_PAGES)


@pytest.mark.only_vendor("svm", reason="Bochs interleaves its processors in one thread; QEMU runs them at once")
def test_all_on_two_processors(boot):
    """The same with two host processors."""
    machine = boot(config(CASES), files(CASES), memory=1000, cpus=2)
    judge(machine, CASES)


def test_the_instruction_is_named(boot):
    """One that isn't emulated on a device's register: its bytes, what it is, and where it went."""
    machine = boot("[host]\nwhen_idle = poweroff\n" + section("named", "nobody", 16, "named"), {"nobody.elf": elf("nobody")})
    machine.wait_end()
    assert re.search(r"^vm named: stopped \(error instruction not emulated: db 05 10 00 c0 fe \(an x87\) at rip 0x[0-9a-f]+, "
                     r"on gpa 0xfec00010\)$", machine.text, re.MULTILINE), machine.text


def private_pages(monitor, name):
    """Frames that a machine holds: its private pages, in 4 KiB."""
    usage = monitor.json(f"info phys {name}")["usage"]
    return next(row["private_pages"] for row in usage if row["machine"] == name)


def test_reading_costs_no_frame(boot):
    """256 MiB read, and the machine holds no more than its image and what the loader put there."""
    text = "[host]\nwhen_idle = monitor\n" + section("reader", "read256", 300, "wait") + section(
        "small", "read256", 100, "mib=64 wait", "large_pages = off\n") + section("toucher", "touch2m", 64, "wait")
    machine = boot(text, {"read256.elf": elf("read256"), "touch2m.elf": elf("touch2m")}, memory=768)
    monitor = machine.monitor.wait_prompt()
    for name in ("reader", "small", "toucher"):
        monitor.wait_guest_line(name, "waiting") if f"{name}| waiting" not in machine.text else None
    monitor.command("mode json")
    held = {name: private_pages(monitor, name) for name in ("reader", "small", "toucher")}
    assert "reader| read 256 MiB, sum 0" in machine.text
    # Large pages: the blocks at 0 and at 1 MiB and up, which are one; small pages: page by page.
    assert held["reader"] <= 2 * 512, held
    assert held["small"] <= 64, held
    # 24 blocks of 2 MiB touched by one byte each, and the image's.
    assert 24 * 512 <= held["toucher"] <= 26 * 512, held
    # Records: a page for each block in pages, and 32 bytes for each block of the 256 MiB around what was touched; the reader's
    # 256 MiB begin above the image, and so reach into the next.
    stats = {row["name"]: row["value"] for row in monitor.json("stats *er/PGM/Page/*")["stats"]}
    for name, blocks in (("reader", 2 * 128), ("toucher", 128)):
        records = stats[f"{name}/PGM/Page/cbRecords"] - 4096 * stats[f"{name}/PGM/Page/cDetailedBlocks"]
        assert records == 32 * blocks, (name, stats)
    assert monitor.json("check")["findings"] == 0


@pytest.mark.parametrize("pages", ["on", "off"])
def test_attack7_nothing_leaks(boot, pages):
    """Attack 7: a machine fills memory and registers; the next one finds zeros and reset values."""
    more = f"autostart = off\nlarge_pages = {pages}\n"
    text = "[host]\nwhen_idle = monitor\n" + section("secret", "secret", 300, "", more) + section(
        "fill", "registers", 16, "fill", more) + section("leak", "leakcheck", 360, "", more) + section(
        "registers", "registers", 16, "", more)
    names = ("secret", "leakcheck", "registers")
    machine = boot(text, {f"{name}.elf": elf(name) for name in names}, memory=512)
    monitor = machine.monitor.wait_prompt()
    for turn in range(2):  # a first start fills the caches of the kernel's heap; a second one must take nothing more
        for name in ("secret", "leak", "fill", "registers"):
            machine.send(f"vm start {name}\r")
            assert monitor.wait_stopped(name) == GOOD, machine.monitor.console_of(name)
        monitor.wait_prompt()
        before = before if turn else monitor.command("info chunks")
    assert monitor.command("check") == ["check: 0 findings"]
    assert without_zeroed(monitor.command("info chunks")) == without_zeroed(before)


def test_a_pause_stops_every_clock(boot):
    """The machine's clocks stand still together, and go on together."""
    machine = boot("[host]\nwhen_idle = poweroff\n" + section("clocks", "clocks", 16), {"clocks.elf": elf("clocks")}, memory=512)
    monitor = machine.monitor
    monitor.wait_guest_line("clocks", "measuring")
    monitor.command("mode json")
    for _ in range(2):
        assert monitor.json("vm pause clocks")["done"] == "paused"
        held = monitor.json("vm info clocks")["clock_ms"]
        for _ in range(5):
            monitor.json("vm list")
        assert monitor.json("vm info clocks")["clock_ms"] == held
        assert monitor.json("vm resume clocks")["done"] == "resumed"
    machine.send("console clocks\rx")
    judge(machine, [Case("clocks", "clocks", 16)])


def test_vector_state_is_kept(boot):
    """Two machines on one processor keep their whole FPU state; the second starts while the first one runs alone."""
    text = "[host]\nwhen_idle = poweroff\n" + section("first", "vectors", 16, "pattern=90 rounds=6000", "cpu = 0\n") + section(
        "second", "vectors", 16, "pattern=165 rounds=3000", "cpu = 0\nautostart = off\n")
    machine = boot(text, {"vectors.elf": elf("vectors")}, memory=512)
    monitor = machine.monitor
    monitor.wait_guest_line("first", "spinning")
    machine.send("vm start second\r")
    monitor.wait_guest_line("second", "spinning")
    machine.wait_end()
    ends = dict(re.findall(r"^vm (first|second): stopped \(([^\n]*)\)$", machine.text, re.MULTILINE))
    assert ends == {"first": GOOD, "second": GOOD}, machine.monitor.console_of("first") + machine.monitor.console_of("second")


def test_attack7_beside_a_running_machine(boot):
    """A second machine starts on the CPU where the first one runs: it finds reset values, and the first one its own."""
    text = "[host]\nwhen_idle = monitor\n" + section("holder", "registers", 16, "hold ever", "cpu = 0\n") + "".join(
        section(name, "registers", 16, line, "autostart = off\ncpu = 0\n")
        for name, line in (("second", ""), ("third", "hold"), ("fourth", "")))
    machine = boot(text, {"registers.elf": elf("registers")})
    monitor = machine.monitor.wait_prompt()
    monitor.wait_guest_line("holder", "filled") if "holder| filled" not in machine.text else None
    for name in ("second", "third", "fourth"):  # beside one, then beside one that ends with a secret of its own
        machine.send(f"vm start {name}\r")
        assert monitor.wait_stopped(name) == GOOD, monitor.console_of(name)
    monitor.wait_prompt()
    monitor.command("vm stop holder")
    assert monitor.wait_stopped("holder") == "stopped by the operator", monitor.console_of("holder")
    said = monitor.console_of("holder")
    assert not [line for line in said if "FAILED" in line or "EXCEPTION" in line], said


def without_zeroed(lines):
    """info chunks without what only says how many free chunks are cleared already."""
    return [line for line in lines if not line.startswith("zero chunks")]


def test_operator_stops_a_dead_machine(boot):
    """HLT with interrupts off for good: the machine idles, others live, and the operator can end it."""
    text = "[host]\nwhen_idle = poweroff\n" + section("dead", "hlt", 16, "dead") + section("live", "hlt", 16)
    machine = boot(text, {"hlt.elf": elf("hlt")})
    monitor = machine.monitor
    assert monitor.wait_stopped("live") == GOOD
    machine.send("vm stop dead\r")
    assert monitor.wait_stopped("dead") == "stopped by the operator"
    machine.wait_end()


def test_emptiness_is_told(boot, folder):
    """A machine that executes zeros: told once, and it can be stopped."""
    path = os.path.join(folder, "empty.bin")
    # Vector 13, for #GP at the segment's end, leads to 7c0ch: mov word [34h], 7c0ch; mov word [36h], 0; mov sp, 7c00h; jmp 8000h
    with open(path, "wb") as stream:
        stream.write(bytes.fromhex("c70634000c7c" "c70636000000" "bc007c" "e9ee03"))
    text = ("[host]\nwhen_idle = monitor\n[vm e]\nkernel = empty.bin\nprotocol = flat\nmemory = 16M\n" + section("good", "hlt", 16))
    machine = boot(text, {"empty.bin": path, "hlt.elf": elf("hlt")})
    machine.expect("vm e: vcpu 0 runs through empty memory, at rip")
    machine.monitor.wait_prompt()
    machine.monitor.command("vm stop e")
    assert machine.monitor.wait_stopped("e") == "stopped by the operator"
    assert machine.text.count("runs through empty memory") == 1


def test_power_button(boot):
    """`vm button`: a guest that sleeps is woken by it, and switches itself off."""
    machine = boot("[host]\nwhen_idle = poweroff\n" + section("w", "wake", 16, "button"), {"wake.elf": elf("wake")})
    machine.monitor.wait_guest_line("w", "waiting for the button")
    machine.send("vm button w\r")
    assert machine.monitor.wait_stopped("w") == "poweroff"
    machine.wait_end()


def test_a_stop_wins_against_resets(boot):
    """A guest that resets all the time is hardly ever in a state but that of being reset."""
    text = "[host]\nwhen_idle = monitor\n" + section("loop", "reset", 16, "cf9", "on_reset = restart\nautostart = off\n")
    machine = boot(text, {"reset.elf": elf("reset")})
    monitor = machine.monitor.wait_prompt()
    for _ in range(10):
        machine.send("vm start loop\r")
        machine.expect("vm loop: reset")
        monitor.wait_prompt()
        assert monitor.command("vm stop loop") == ["vm loop: stopping"]
        assert monitor.wait_stopped("loop") == "stopped by the operator"
        monitor.wait_prompt()


def test_moves_to_devices(boot):
    """Plain moves to devices, most of what this guest does, are finished without the emulator, and the rest by it."""
    machine = boot("[host]\nwhen_idle = monitor\n" + section("mmio", "mmio", 16, "wait"), {"mmio.elf": elf("mmio")})
    monitor = machine.monitor.wait_prompt()
    monitor.wait_guest_line("mmio", "waiting")
    assert "all checks passed" in monitor.console_of("mmio")
    numbers = {}
    for name in ("QuickAccesses", "Decode/Hits", "Decode/Misses"):
        lines = monitor.command(f"stats *{name}")
        numbers[name] = int(re.search(rf"{name} +(\d+) ", "\n".join(lines)).group(1))
    assert numbers["QuickAccesses"] >= 40, numbers
    assert numbers["Decode/Hits"] > 0 and numbers["Decode/Misses"] > 20, numbers
