# SPDX-License-Identifier: Apache-2.0
"""The A20 gate in every mode, and resets: of one small guest many times over, and of Linux."""
import os
import re

import pytest
from harness import BUILD, guests

GOOD = "exit port 0xf4 value 42"
MODES = ["mirrors", "real mode", "protected mode", "device", "32-bit paging", "page walk", "PAE", "long mode", "real mode"]


def elf(name):
    return os.path.join(BUILD, f"guests/{name}.elf")


def section(name, guest, memory, line="", more=""):
    return (f"[vm {name}]\nkernel = {guest}.elf\nmemory = {memory}M\ntest_ports = on\n"
            + (f"cmdline = {line}\n" if line else "") + more)


@pytest.mark.parametrize("pages", ["on", "off"])
def test_a20(boot, pages):
    """Real, protected, 32-bit, PAE and long mode with the gate open and closed, with large pages and without."""
    text = "[host]\nwhen_idle = monitor\n" + section("a", "a20", 24, "", f"large_pages = {pages}\n")
    machine = boot(text, {"a20.elf": elf("a20")})
    monitor = machine.monitor
    assert monitor.wait_stopped("a") == GOOD, monitor.console_of("a")
    said = monitor.console_of("a")
    assert [line for line in said if line in MODES] == MODES, said
    monitor.wait_prompt()
    assert monitor.command("check") == ["check: 0 findings"]


def without_zeroed(lines):
    """info chunks without what only says how many free chunks are cleared already."""
    return [line for line in lines if not line.startswith("zero")]


def resets_of(machine, name):
    return len(re.findall(rf"^vm {name}: reset$", machine.text, re.MULTILINE))


@pytest.mark.parametrize("more,line", [("", "cmos"), ("zero_ram_on_reset = off\n", "ram"),
                                       ("large_pages = off\n", "cmos"),
                                       ("large_pages = off\nzero_ram_on_reset = off\n", "ram")],
                         ids=["zero", "keep", "zero-4k", "keep-4k"])
def test_reboot_200_times(boot, more, line):
    """A small guest resets itself 200 times; memory is zero, or kept, and no frame is lost."""
    more += "on_reset = restart\nautostart = off\n"
    text = "[host]\nwhen_idle = monitor\n" + section("first", "reboot", 24, f"{line} times=0 mib=3", more) + section(
        "r", "reboot", 24, f"{line} times=200 mib=3", more)
    machine = boot(text, {"reboot.elf": elf("reboot")})
    monitor = machine.monitor.wait_prompt()
    machine.send("vm start first\r")  # so that the hypervisor's own heap has grown to what a machine needs
    assert monitor.wait_stopped("first") == GOOD, monitor.console_of("first")
    monitor.wait_prompt()
    before = monitor.command("info chunks")
    machine.send("vm start r\r")
    assert monitor.wait_stopped("r") == GOOD, monitor.console_of("r")
    assert "lived 201 times" in monitor.console_of("r")
    assert resets_of(machine, "r") == 200
    monitor.wait_prompt()
    assert monitor.command("check") == ["check: 0 findings"]
    assert without_zeroed(monitor.command("info chunks")) == without_zeroed(before)


def test_reset_stops_by_default(boot):
    """Without the key a reset ends the machine, as ever."""
    text = "[host]\nwhen_idle = monitor\n" + section("r", "reboot", 24, "cmos times=5")
    machine = boot(text, {"reboot.elf": elf("reboot")})
    assert machine.monitor.wait_stopped("r") == "reset"


def test_operator_resets(boot):
    """`vm reset` on a running and on a paused machine: the kernel begins anew, its console stays."""
    text = "[host]\nwhen_idle = monitor\n" + section("h", "hlt", 16, "dead") + section("p", "hlt", 16, "dead")
    machine = boot(text, {"hlt.elf": elf("hlt")})
    monitor = machine.monitor.wait_prompt()
    monitor.command("vm pause p")
    for name in ("h", "p"):
        monitor.command(f"vm reset {name}")
        machine.expect(rf"vm {name}: reset(?=[\r\n])")
    states = {row["name"]: row["state"] for row in (monitor.command("mode json"), monitor.json("vm list"))[1]["machines"]}
    assert states == {"h": "running", "p": "running"}
    assert monitor.json("check")["findings"] == 0


def linux_reboots(boot, linux, times, pages, cpus=1):
    """Linux boots, resets itself by the keyboard controller, and so on; all frames are there afterwards."""
    text = ("[host]\nwhen_idle = monitor\n[vm l]\nkernel = vmlinuz\ninitrd = initrd.img\nmemory = 192M\n"
            f"cpus = {cpus}\nautostart = off\non_reset = restart\nlarge_pages = {pages}\ncmdline = console=ttyS0,115200 nokaslr "
            "mitigations=off panic=-1 quiet cryptomgr.notests lpj=400000 no_timer_check tsc=reliable reboot=k\n")
    machine = boot(text, linux, memory=768)
    monitor = machine.monitor.wait_prompt()
    machine.send("vm start l\r")  # a first life, so that the hypervisor's own heap has grown to what it needs
    monitor.wait_guest_line("l", guests.READY, timeout=240)
    machine.send("vm stop l\r")
    monitor.wait_stopped("l")
    monitor.wait_prompt()
    before = monitor.command("info chunks")
    machine.send("vm start l\r")
    for _ in range(times):
        monitor.wait_guest_line("l", guests.READY, timeout=240)
        monitor.wait_prompt()
        monitor.command("vm reset l")
        machine.expect(r"vm l: reset(?=[\r\n])", timeout=60)
    monitor.wait_guest_line("l", guests.READY, timeout=240)
    monitor.wait_prompt()
    assert monitor.command("check") == ["check: 0 findings"]
    machine.send("vm stop l\r")
    monitor.wait_stopped("l")
    monitor.wait_prompt()
    assert resets_of(machine, "l") == times
    assert monitor.command("check") == ["check: 0 findings"]
    assert without_zeroed(monitor.command("info chunks")) == without_zeroed(before)


@pytest.mark.only_vendor("svm", reason="enough once; both vendors in the slow case")
def test_linux_reboots_3_times(boot, linux):
    """The fast case."""
    linux_reboots(boot, linux, 3, "on")


@pytest.mark.slow
@pytest.mark.parametrize("pages", ["on", "off"])
def test_linux_reboots_20_times(boot, linux, pages):
    """No frame lost in twenty lives."""
    linux_reboots(boot, linux, 20, pages)


@pytest.mark.slow
def test_linux_of_four_reboots_100_times(boot, linux):
    """Nor with four processors, which all start anew."""
    linux_reboots(boot, linux, 100, "on", cpus=4)
