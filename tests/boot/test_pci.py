# SPDX-License-Identifier: Apache-2.0
"""The PCI bus of machines, and the virtio devices on it, with Debian's own drivers."""
import pytest
from harness import guests

from test_linux import LINES, attach, back, shell

MODULES = ("virtio_pci", "virtio_balloon")


def config(vendor, more=""):
    return ("[host]\nwhen_idle = monitor\n[vm one]\nkernel = vmlinuz\ninitrd = initrd-pci.img\nmemory = 128M\nballoon = on\n"
            f"cmdline = {LINES[vendor]}{more}\n")


def balloon(machine, what, wanted):
    """Asks for the balloon until the monitor's answer has a field as wanted; the guest needs some time for it."""
    for _ in range(200):
        fields = dict(line.split(": ", 1) for line in machine.monitor.command("balloon one") if ": " in line)
        if wanted(int(fields[what])):
            return fields
    raise AssertionError(f"balloon: {what} stays {fields[what]}\n{machine.tail()}")


def linux_with_drivers(boot, vendor, linux, more=""):
    initrd = guests.initramfs("--modules", *MODULES, name="initrd-pci.img")
    machine = boot(config(vendor, more), {"vmlinuz": linux["vmlinuz"], "initrd-pci.img": initrd}, memory=384)
    machine.monitor.wait_prompt()
    machine.monitor.wait_guest_line("one", guests.READY, 900)
    return machine


def test_linux_finds_the_bus_and_its_balloon(boot, vendor, linux):
    """Configuration by memory, BARs, MSI-X; the balloon takes what the monitor asks for, tells of free memory, and gives back."""
    machine = linux_with_drivers(boot, vendor, linux)
    attach(machine, "one")
    shell(machine, "cat /sys/bus/pci/devices/*/class | tr '\\n' ' '", "^0x060000 0x00ff00 ")
    shell(machine, "grep -c 'PCI MMCONFIG 0000 .bus 00' /proc/iomem", "^1")
    shell(machine, "grep -c 0000:00:01.0 /proc/iomem", "^2")
    shell(machine, "readlink /sys/bus/virtio/devices/virtio0/driver", "virtio_balloon")
    shell(machine, "cat /proc/interrupts | grep -c PCI-MSI", "^[1-9]")
    free = "awk '/MemFree/ { print $2 }' /proc/meminfo"
    shell(machine, f"before=$({free}); echo $before", r"^\d+")
    back(machine)
    machine.monitor.command("balloon one 32")
    balloon(machine, "held mib", lambda held: held == 32)
    attach(machine, "one")
    shell(machine, f"echo given $(( (before - $({free})) / 1024 ))", r"^given (2[5-9]|3\d)")
    back(machine)
    machine.monitor.command("balloon one collect")
    balloon(machine, "told free mib", lambda told: told > 0)
    machine.monitor.command("balloon one 0")
    balloon(machine, "held mib", lambda held: held == 0)
    assert any(line.split()[:1] == ["free-memory"] for line in machine.monitor.command("balloon one"))


@pytest.mark.only_vendor("svm", reason="lines and controllers are the same on both")
def test_lines_instead_of_messages(boot, vendor, linux):
    """Without MSI the device's interrupts come by its line, as ACPI routes it."""
    machine = linux_with_drivers(boot, vendor, linux, " pci=nomsi")
    machine.monitor.command("balloon one 8")
    balloon(machine, "held mib", lambda held: held == 8)
    attach(machine, "one")
    shell(machine, "grep virtio /proc/interrupts", r"11: +[1-9]\d* .*virtio0")
