# SPDX-License-Identifier: Apache-2.0
"""The PCI bus of machines, and the virtio devices on it, with Debian's own drivers."""
import hashlib
import time

import pytest
from harness import guests

from test_linux import LINES, attach, back, shell

MODULES = ("virtio_pci", "virtio_balloon", "virtio_mem")
BIG = hashlib.md5(b"x" * 40000000).hexdigest()


def config(vendor, more=""):
    return ("[host]\nwhen_idle = monitor\n[vm one]\nkernel = vmlinuz\ninitrd = initrd-pci.img\nmemory = 128M\nmemory_max = 256M\nballoon = on\n"
            f"cmdline = {LINES[vendor]} memhp_default_state=online{more}\n")


def ask(machine, command, what, wanted):
    """Gives the command until the monitor's answer has a field as wanted; the guest needs some time for it."""
    for _ in range(2000):
        fields = dict(line.split(": ", 1) for line in machine.monitor.command(command) if ": " in line)
        if wanted(int(fields[what])):
            return fields
        time.sleep(0.05)  # while the monitor answers, its CPU does nothing else
    raise AssertionError(f"{command}: {what} stays {fields[what]}\n{machine.tail()}")


def linux_with_drivers(boot, vendor, linux, more=""):
    initrd = guests.initramfs("--modules", *MODULES, name="initrd-pci.img")
    machine = boot(config(vendor, more), {"vmlinuz": linux["vmlinuz"], "initrd-pci.img": initrd}, memory=512)
    machine.monitor.wait_prompt()
    machine.monitor.wait_guest_line("one", guests.READY, 900)
    return machine


def test_linux_finds_the_bus_and_its_balloon(boot, vendor, linux):
    """Configuration by memory, BARs, MSI-X; the balloon takes what the monitor asks for, tells of free memory, and gives back."""
    machine = linux_with_drivers(boot, vendor, linux)
    attach(machine, "one")
    shell(machine, "cat /sys/bus/pci/devices/*/class | tr '\\n' ' '", "^0x060000 0x00ff00 0x00ff00 ")
    shell(machine, "grep -c 'PCI MMCONFIG 0000 .bus 00' /proc/iomem", "^1")
    shell(machine, "grep -c 0000:00:01.0 /proc/iomem", "^2")
    shell(machine, "readlink /sys/bus/virtio/devices/virtio0/driver", "virtio_balloon")
    shell(machine, "cat /proc/interrupts | grep -c PCI-MSI", "^[1-9]")
    free = "awk '/MemFree/ { print $2 }' /proc/meminfo"
    shell(machine, f"before=$({free}); echo $before", r"^\d+")
    back(machine)
    machine.monitor.command("balloon one 32")
    ask(machine, "balloon one", "held mib", lambda held: held == 32)
    attach(machine, "one")
    shell(machine, f"echo given $(( (before - $({free})) / 1024 ))", r"^given (2[5-9]|3\d)")
    back(machine)
    machine.monitor.command("balloon one collect")
    ask(machine, "balloon one", "told free mib", lambda told: told > 0)
    machine.monitor.command("balloon one auto")  # with plenty there, it has nothing to hold
    ask(machine, "balloon one", "held mib", lambda held: held == 0)
    for command in ("balloon one", "vm info one"):
        assert any(line.split()[:1] == ["free-memory"] for line in machine.monitor.command(command))


@pytest.mark.slow
def test_linux_grows(boot, vendor, linux):
    """A machine of 128 MiB gets 64 MiB more, uses them (what is above 4 GiB goes first), and gives most of them back."""
    machine = linux_with_drivers(boot, vendor, linux)
    total = "awk '/MemTotal/ { print $2 }' /proc/meminfo"
    attach(machine, "one")
    shell(machine, f"before=$({total}); echo $before", r"^\d+")
    back(machine)
    machine.monitor.command("vm memory one 192")
    ask(machine, "vm memory one", "now mib", lambda now: now == 192)
    attach(machine, "one")
    # The device has it at once, Linux takes it up a little later.
    shell(machine, f"until [ $((GROWN)) -ge 60 ]; do sleep 1; done; echo grown by $((GROWN))".replace("GROWN", f"($({total}) - before) / 1024"),
          "^grown by 6[0-4]")
    shell(machine, "mount -o remount,size=100m /tmp; cd /tmp; head -c 1000000 /dev/zero | tr '\\0' x >a; "
          "for i in $(seq 40); do cat a; done >big; md5sum <big; rm a big", "^" + BIG)
    back(machine)
    assert machine.monitor.command("check")[-1] == "check: 0 findings"
    machine.monitor.command("vm memory one 128")
    ask(machine, "vm memory one", "now mib", lambda now: now <= 144)  # some of it holds what the kernel can't move


@pytest.mark.only_vendor("svm", reason="lines and controllers are the same on both")
def test_lines_instead_of_messages(boot, vendor, linux):
    """Without MSI the device's interrupts come by its line, as ACPI routes it."""
    machine = linux_with_drivers(boot, vendor, linux, " pci=nomsi")
    machine.monitor.command("balloon one 8")
    ask(machine, "balloon one", "held mib", lambda held: held == 8)
    attach(machine, "one")
    shell(machine, "grep virtio /proc/interrupts", r"11: +[1-9]\d* .*virtio0")
