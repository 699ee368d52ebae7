# SPDX-License-Identifier: Apache-2.0
"""The PCI bus of machines, and the virtio devices on it, with Debian's own drivers."""
import re

from harness import guests

from test_linux import LINES, attach, back, shell

MODULES = ("virtio_pci", "virtio_balloon")


def config(vendor, more=""):
    return (f"[host]\nwhen_idle = monitor\n[vm one]\nkernel = vmlinuz\ninitrd = initrd-pci.img\nmemory = 128M\nballoon = on\n"
            f"cmdline = {LINES[vendor]}\n{more}")


def free_kib(machine):
    return int(re.search(r"(\d+) kB", shell(machine, "grep MemFree /proc/meminfo", r"^MemFree: +\d+ kB").group(0)).group(1))


def test_linux_finds_the_bus_and_its_balloon(boot, vendor, linux):
    """Configuration by memory, a BAR, MSI-X; the balloon takes what the monitor asks for and gives it back."""
    initrd = guests.initramfs("--modules", *MODULES, name="initrd-pci.img")
    machine = boot(config(vendor), {"vmlinuz": linux["vmlinuz"], "initrd-pci.img": initrd}, memory=384)
    monitor = machine.monitor.wait_prompt()
    monitor.wait_guest_line("one", guests.READY, 900)
    attach(machine, "one")
    shell(machine, "cat /sys/bus/pci/devices/*/class | tr '\\n' ' '", "^0x060000 0x00ff00 ")
    shell(machine, "grep -c 'PCI MMCONFIG 0000 .bus 00' /proc/iomem", "^1")
    shell(machine, "grep -c 0000:00:01.0 /proc/iomem", "^2")
    shell(machine, "readlink /sys/bus/virtio/devices/virtio0/driver", "virtio_balloon")
    shell(machine, "cat /proc/interrupts | grep -c PCI-MSI", "^[1-9]")
    before = free_kib(machine)
    back(machine)
