# SPDX-License-Identifier: Apache-2.0
"""Hypervisors as guests: the test hypervisor (tests/guests/hyper) and Linux KVM in Quire, and what runs in them.

Each runs on the bare emulator too: what it gives there is what it must give in Quire.
"""
import os
import re
import subprocess

import bare
import pytest
from harness import BUILD, ROOT, Bochs, Qemu, guests
from test_dirty import WAYS, log, pause, resume, verify_paused
from test_guests import processors
from test_kvm import qemu_files

LINE = "console=ttyS0,115200 nokaslr mitigations=off panic=-1 quiet cryptomgr.notests init_on_alloc=0"
# nopv: counted by instructions, QEMU delivers an injected interrupt twice, and L2 may wait for a lock that it has. Quire mends it, KVM doesn't.
INNER = {"svm": f"{LINE} nopv", "vmx": LINE}
MODULES = {"svm": "kvm_amd", "vmx": "kvm_intel"}
EMULATORS = {"svm": Qemu, "vmx": Bochs}
GOOD = "exit port 0xf4 value 42"
GUARD = 1800
# A clock must not run ahead of what a loaded host lets QEMU do, or timers leave a guest's guest no time: it goes by instructions.
COUNTED = {"qemu": {"icount": 1}}
CASES = ["instructions", "events", "interrupts", "matrix", "stale", "chaos", "soak", "vmcs", "checks", "marks", "controls"]
SAME = ["instructions", "events", "matrix", "vmcs", "checks"]  # those that print each exit's numbers


def quirks(machine_class):
    return "bochs" if machine_class is Bochs else "qemu"


# -- the test hypervisor --

def bare_hyper(folder, machine_class, line, **options):
    """What the test hypervisor says on the emulator itself."""
    machine = bare.guest(folder, machine_class, "hyper", f"{quirks(machine_class)} {line}", **options)
    try:
        machine.expect("all checks passed|checks failed|EXCEPTION", 300)
        return [text.rstrip() for text in machine.text[machine.text.index("physical bits"):].splitlines() if text.strip()]
    finally:
        machine.kill()


def run_hyper(boot, cases, line=" rounds=1000", more="", **options):
    """The cases in Quire, each in a machine of its own; returns {case: (how it ended, what it said)}."""
    known = quirks(options.get("machine_class", boot.machine_class))
    text = "[host]\nwhen_idle = poweroff\n" + "".join(
        f"[vm {case}]\nkernel = hyper.elf\nmemory = 64M\nnested = on\ntest_ports = on\n"
        f"cmdline = {known} {case}{line}\n{more}" for case in cases)
    machine = boot(text, {"hyper.elf": os.path.join(BUILD, "guests/hyper.elf")}, memory=1000, **options)
    machine.wait_end(GUARD)
    ends = dict(re.findall(r"^vm ([a-z0-9-]+): stopped \(([^\n]*)\)$", machine.text, re.MULTILINE))
    return {case: (ends.get(case), [line.rstrip() for line in machine.monitor.console_of(case) if line.strip()]) for case in cases}


def letters(lines):
    """Without what parts them: the monitor shows half a line of a guest that has been waiting for long in its middle."""
    return re.sub(r"\s", "", "".join(lines))


def same_as_bare(boot, folder, machine_class, cases, **options):
    """The test hypervisor's checks hold on the processor, and in Quire, where several run at once; what it says of exits is the same."""
    bare_said = {case: bare_hyper(folder, machine_class, case, **options) for case in cases}
    assert not {case: said for case, said in bare_said.items() if "all checks passed" not in said}
    found = run_hyper(boot, cases, machine_class=machine_class, **options)
    assert not {case: said for case, (ended, said) in found.items() if ended != GOOD}
    owns = {line for line in bare_said["interrupts"] if line.startswith("L2 has")}
    assert len(owns) == 1 and letters(owns) in letters(found["interrupts"][1])
    for case in SAME:
        said, rest = letters(found[case][1]), letters(bare_said[case][1:])
        assert said.endswith(rest) and re.fullmatch("(SVM|VMX),.{1,90}", said[:-len(rest)]), case


def test_hyper(boot, folder):
    """On each vendor's emulator."""
    same_as_bare(boot, folder, boot.machine_class, CASES)


@pytest.mark.slow
@pytest.mark.only_vendor("svm", reason="Bochs' SVM is a second opinion")
def test_hyper_zambezi(boot, folder):
    """On Bochs' SVM, too."""
    same_as_bare(boot, folder, Bochs, CASES, model="zambezi")


@pytest.mark.slow
def test_hyper_on_two(boot, folder):
    """With two processors: an L2 that moves, tables changed beneath one that runs, structures changed while they are entered with."""
    said = bare_hyper(folder, boot.machine_class, "smp cpus=2", cpus=2)
    assert "all checks passed" in said, said
    found = run_hyper(boot, ["smp"], " cpus=2 attack", "cpus = 2\n", cpus=2)
    assert found["smp"][0] == GOOD, found


@pytest.mark.parametrize("cpus", (1, pytest.param(2, marks=pytest.mark.slow)))
def test_hyper_crowd(boot, cpus):
    """Four L2s on four vcpus while one of these moves their pages, narrows rights, exchanges tables."""
    line, cpus = processors(boot, cpus)
    found = run_hyper(boot, ["crowd"], " cpus=4 millions=1", "cpus = 4\n" + line, cpus=cpus)
    assert found["crowd"][0] == GOOD, found


def at_random(boot, more, seeds, rounds):
    for seed in seeds:
        ended, said = run_hyper(boot, ["chaos"], f" seed={seed} rounds={rounds}", more)["chaos"]
        assert ended == GOOD, said


@pytest.mark.parametrize("more", ["", "large_pages = off\n"])
def test_hyper_at_random(boot, more):
    """Random changes and accesses."""
    at_random(boot, more, [2], 10000)


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", "large_pages = off\n"])
def test_hyper_at_random_for_long(boot, more):
    """The same from several seeds."""
    at_random(boot, more, [2, 3, 4], 20000)


@pytest.mark.slow
@pytest.mark.parametrize("large", ["on", "off"])
def test_attack8_log_of_what_an_l2_writes(boot, vendor, large):
    """The log is complete in each way that the vendor has, and L1 and L2 see no difference while it goes on and off."""
    line = f"{quirks(boot.machine_class)} chaos rounds=1000000000"
    machine = boot(f"[vm l1]\nkernel = hyper.elf\nmemory = 64M\nnested = on\ncpu = 1\ntest_ports = on\nlarge_pages = {large}\ncmdline = {line}\n",
                   {"hyper.elf": os.path.join(BUILD, "guests/hyper.elf")}, cpus=2)
    machine.monitor.wait_guest_line("l1", "physical bits")
    monitor = machine.monitor.wait_prompt()  # drawn anew behind it, and maybe for the first time
    monitor.command("mode json")
    for way in WAYS[vendor]:
        assert log(monitor, "l1", "on", way)["mode"] == way
        log(monitor, "l1", "verify")
        pages = 0
        for _ in range(4):
            pause(monitor, "l1")
            pages += verify_paused(monitor, "l1")["pages"]
            resume(monitor, "l1")
        assert pages > 0, "L2 writes all the time"
        log(monitor, "l1", "off")
        assert monitor.json("check")["findings"] == 0
    log(monitor, "l1", "toggle", "200", timeout=600)
    assert monitor.json("check")["findings"] == 0
    assert not [text for text in monitor.console_of("l1") if "FAILED" in text]


def find_l2(monitor, tries=200):
    """Pauses the machine until it stands in its guest; its row of `info mode`."""
    for _ in range(tries):
        pause(monitor, "l1")
        mode = monitor.json("info mode l1")["modes"][0]
        if mode["level"] == "L2":
            return mode
        resume(monitor, "l1")
    raise AssertionError("never seen in L2")


def test_monitor_sees_levels(boot, vendor):
    """`info mode`, `walk`, `info pool` and the counters of exits while L2 runs."""
    line = f"{quirks(boot.machine_class)} chaos rounds=1000000000"
    machine = boot(f"[vm l1]\nkernel = hyper.elf\nmemory = 64M\nnested = on\ncpu = 1\ntest_ports = on\ncmdline = {line}\n",
                   {"hyper.elf": os.path.join(BUILD, "guests/hyper.elf")}, cpus=2)
    machine.monitor.wait_guest_line("l1", "physical bits")
    monitor = machine.monitor.wait_prompt()  # drawn anew behind it, and maybe for the first time
    monitor.command("mode json")
    assert find_l2(monitor)["slat_mode"] == {"svm": "NPT", "vmx": "EPT"}[vendor]
    rip = monitor.json("info cpu l1")["vcpus"][0]["rip"]
    walk = monitor.json(f"walk l1 {rip}")
    assert walk["level"] == "L2" and walk["result"] == "mapped", walk
    way = [row for row in walk["outer"] if row["of"] == "page"]
    assert way and way[-1]["leads"] == "on", walk
    asserted = monitor.json("pgmassertcr3 l1")
    assert asserted["complete"] and asserted["errors"] == 0, asserted
    assert asserted["leaves_in_memory"] and not asserted["tables_outside_memory"], asserted
    ours = [row for row in walk["slat"] if row["of"] == "page"]
    assert ours and "X" in ours[-1]["grants"], walk
    for _ in range(50):
        rows = {row["name"]: row["value"] for row in monitor.json("stats l1/EXIT/*L2*")["stats"]}
        if sum(value for name, value in rows.items() if name.endswith("/L2/ToL1")):
            break
        resume(monitor, "l1")
        find_l2(monitor)
    assert sum(value for name, value in rows.items() if name.endswith("/L2/ToL1")) > 0
    assert sum(value for name, value in rows.items() if name.endswith("/L2")) >= rows["l1/EXIT/CPU0/slat-fault/L2"] > 0
    assert monitor.json("check")["findings"] == 0


# -- Linux KVM --

def l1_initramfs(module):
    """Linux with KVM and the test programs."""
    programs = ("kvmtest", "kvmsmp")
    subprocess.run(["make", "-s", "-C", ROOT, *(f"build/linux/{name}" for name in programs)], check=True)
    return guests.initramfs("--modules", module, *(word for name in programs for word in ("--add", f"{BUILD}/linux/{name}:{name}")),
                            "--run", os.path.join(ROOT, "tests/linux/kvmtest.sh"), name=f"l1-{module}.img")


def judge_kvmtest(text, module, runs="YN"):
    """Its runs, with nested paging (Y) and without (N), ended well."""
    paging = "ept" if module == "kvm_intel" else "npt"
    found = re.findall(r"kvmtest: begin (\S+) (\S+)=(\S)|kvmtest: status (\d+)", text)
    assert [(name, what, on) for name, what, on, _ in found if name] == [(module, paging, on) for on in runs], text[-3000:]
    assert [status for *_, status in found if status] == ["0"] * len(runs), text[-3000:]


@pytest.mark.slow
def test_kvm_bare(folder, linux, vendor):
    """The reference: KVM on the emulator itself. (Bochs' SVM stops at a triple fault of KVM's own.)"""
    module = MODULES[vendor]
    machine = bare.linux(folder, EMULATORS[vendor], linux, l1_initramfs(module), f"{LINE} kvmtest=100,2")
    try:
        machine.expect("kvmtest: done", GUARD, refuse="Kernel panic")
        judge_kvmtest(machine.text, module)
    finally:
        machine.kill()


def kvm_in_quire(boot, linux, words, runs, more="", **options):
    """Linux with KVM in Quire, to its test's end."""
    module = MODULES[boot.machine_class.vendor]
    text = (f"[host]\nwhen_idle = monitor\n[vm l1]\nkernel = vmlinuz\ninitrd = initrd.img\nmemory = 200M\nnested = on\n"
            f"cmdline = {LINE} {words}\n{more}")
    machine = boot(text, {"vmlinuz": linux["vmlinuz"], "initrd.img": l1_initramfs(module)}, memory=512, **(options or COUNTED))
    machine.monitor.wait_guest_line("l1", "kvmtest: done", GUARD)
    assert machine.monitor.wait_stopped("l1") == "poweroff"
    judge_kvmtest("\n".join(machine.monitor.console_of("l1")), module, runs)
    machine.monitor.wait_prompt()
    assert machine.monitor.command("check") == ["check: 0 findings"]


@pytest.mark.slow
def test_kvm(boot, linux):
    """A few rounds of KVM's guest in Quire's guest: half a minute, nearly all of it Linux' start."""
    kvm_in_quire(boot, linux, "kvmtest=3,2 kvmtest_once", "Y")


@pytest.mark.slow
def test_kvm_rounds(boot, linux):
    """100 rounds with nested paging, and 100 without."""
    kvm_in_quire(boot, linux, "kvmtest=100,2", "YN")


@pytest.mark.slow
@pytest.mark.parametrize("cpus", (1, 2))
def test_kvm_with_processors(boot, linux, cpus):
    """Two guests of KVM's, of two processors each, on KVM's four, while KVM zaps what is mapped for them: 100 rounds, each way of paging
    (QUIRE_KVM_ROUNDS makes it shorter)."""
    rounds = os.environ.get("QUIRE_KVM_ROUNDS", "100")
    line, cpus = processors(boot, cpus)
    kvm_in_quire(boot, linux, f"kvmsmp={rounds},2", "YN", "cpus = 4\n" + line, cpus=cpus)


def qemu_initramfs(module, linux):
    """Linux with KVM, Debian's QEMU, and what it starts: the same kernel with a small initramfs that says it's ready and ends."""
    inner = guests.initramfs("--run", os.path.join(ROOT, "tests/linux/ready.sh"), name="l2.img")
    add = {**qemu_files(), linux["vmlinuz"]: "vmlinuz", inner: "guest.img", "/usr/share/seabios/bios-256k.bin": "share/bios-256k.bin",
           "/usr/share/qemu/linuxboot_dma.bin": "share/linuxboot_dma.bin"}
    del add["/usr/share/ovmf/OVMF.fd"]
    return guests.initramfs("--modules", module, *(word for path, name in add.items() for word in ("--add", f"{path}:{name}")),
                            "--run", os.path.join(ROOT, "tests/linux/qemu.sh"), name=f"l1-qemu-{module}.img")


@pytest.mark.slow
def test_linux_in_linux(boot, linux):
    """Debian's kernel in Debian's QEMU with KVM in Debian's kernel in Quire."""
    text = (f"[host]\nwhen_idle = poweroff\n[vm l1]\nkernel = vmlinuz\ninitrd = initrd.img\nmemory = 480M\nnested = on\n"
            f"cmdline = {LINE} l2:{INNER[boot.machine_class.vendor]}\n")
    machine = boot(text, {"vmlinuz": linux["vmlinuz"], "initrd.img": qemu_initramfs(MODULES[boot.machine_class.vendor], linux)},
                   memory=1000, **COUNTED)
    machine.monitor.wait_guest_line("l1", "ready.sh: in the guest's guest", GUARD * 2)
    machine.monitor.wait_guest_line("l1", "l1: QEMU ended with 0", GUARD)
    assert machine.monitor.wait_stopped("l1", GUARD) == "poweroff"
    machine.wait_end()


# -- Quire in Quire --

def quire_level(folder, level, names, memory, cpus=1, more=""):
    """The configuration and files of Quire with `level` levels of Quire below it and the guests at the bottom: (text, files)."""
    text = "[host]\nwhen_idle = poweroff\n"
    if not level:
        return text + "".join(f"[vm {name}]\nkernel = {name}.elf\nmemory = 48M\ntest_ports = on\n{more}" for name in names), {
            f"{name}.elf": os.path.join(BUILD, f"guests/{name}.elf") for name in names}
    inner, files = quire_level(folder, level - 1, names, memory // 2, cpus, more)
    conf = os.path.join(folder, f"level{level}.conf")
    with open(conf, "w", encoding="ascii") as stream:
        stream.write(inner)
    text += (f"[vm quire{level}]\nkernel = quire.elf\nmemory = {memory}M\nnested = on\ncpus = {cpus}\n"
             f"modules = {', '.join(['kernel.stripped', f'level{level}.conf', *files])}\n")
    return text, {**files, f"level{level}.conf": conf, "kernel.stripped": os.path.join(BUILD, "kernel.stripped"),
                  "quire.elf": os.path.join(BUILD, "guests/quire.elf")}


def quire_in_quire(boot, folder, level, names, processors=1, more="", **options):
    """That many levels; the guests' end and the clean end of each level. The machine, for more questions."""
    text, files = quire_level(folder, level, names, 256, processors, more)
    machine = boot(text, files, memory=512, **(options or COUNTED))
    machine.expect(rf"vm quire{level}: stopped", GUARD, refuse="PANIC")
    machine.wait_end()
    ends = dict(re.findall(r"vm ([a-z0-9]+): stopped \(([^\n]*)\)", machine.text))
    assert ends == {**{name: GOOD for name in names}, **{f"quire{depth + 1}": "poweroff" for depth in range(level)}}
    return machine


def test_quire_in_quire(boot, folder):
    """Two levels, with guests in every mode of paging."""
    quire_in_quire(boot, folder, 1, ["hello", "modes"])


@pytest.mark.slow
@pytest.mark.parametrize("cpus", (1, 2))
def test_quire_in_quire_on_four(boot, folder, cpus):
    """The inner one starts four processors, and has machines with two; on one processor of the host's, and on two."""
    machine = quire_in_quire(boot, folder, 1, ["hello", "ipi", "storm"], 4, "cpus = 2\ncmdline = cpus=2 rounds=20 storms=50 calls=5\n", cpus=cpus)
    assert re.search(r"quire1\| \[[ .\d]+\] cpus: 4,", machine.text), "the inner one has found fewer"


@pytest.mark.slow
def test_three_levels(boot, folder):
    """Quire in Quire in Quire."""
    quire_in_quire(boot, folder, 2, ["hello"])
