# SPDX-License-Identifier: Apache-2.0
"""Linux' interface for guests of KVM: a small guest that uses all of it, and Debian's kernel, which finds it by itself."""
import re
import time

from harness import guests

from test_guests import Case, elf, judge, section
from test_linux import LINES, attach, back, shell


def test_small_guest(boot):
    """Everything there is, by two processors of which only one runs at a time; and nothing of it with pv = off."""
    cases = [Case("pv", "pv", 16), Case("off", "pv", 16)]
    machine = boot("[host]\nwhen_idle = poweroff\n" + section("pv", "pv", 16, "one", "cpus = 2\n")
                   + section("off", "pv", 16, "off", "pv = off\n"), {"pv.elf": elf("pv")}, memory=512)
    judge(machine, cases)


SAID = ("kvm-clock: Using msrs", "KVM setup pv remote TLB flush", "setup PV sched yield", "PV spinlocks enabled", "KVM setup pv IPIs|setup PV IPIs",
        "Switched to clocksource (kvm-clock|tsc)")


def test_linux(boot, vendor, linux):
    """Debian's kernel on two sockets of two threads: takes each part of the interface, sees the topology, lives through a pause."""
    line = LINES[vendor].replace(" quiet", "")
    machine = boot("[host]\nwhen_idle = monitor\n[vm pv]\nkernel = vmlinuz\ninitrd = initrd.img\nmemory = 256M\ncpus = 4\n"
                   f"topology = 2x1x2\ncmdline = {line}\n", linux, memory=640)
    monitor = machine.monitor
    monitor.wait_guest_line("pv", guests.READY, 900)
    monitor.wait_prompt()
    for said in SAID:
        assert re.search(said, machine.text), said
    assert monitor.command("vm pause pv")[-1].endswith("paused")
    monitor.command("vm resume pv")
    attach(machine, "pv")
    shell(machine, "cd /sys/devices/system/cpu; cat cpu*/topology/thread_siblings_list", "^0-1\\s+0-1\\s+2-3\\s+2-3")
    shell(machine, "cat cpu*/topology/physical_package_id", "^0\\s+0\\s+1\\s+1")
    shell(machine, "ls /sys/bus/acpi/devices | grep -c ACPI0007", "^4")
    shell(machine, "date -u +%Y", f"^{time.gmtime().tm_year}")
    shell(machine, "dmesg | grep -cE 'stuck|BUG:|WARNING:|lockup|Call Trace|clocksource.*unstable'", "^0")
    back(machine)
    assert monitor.command("check")[-1] == "check: 0 findings"
    monitor.command("vm stop pv")
