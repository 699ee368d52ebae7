# SPDX-License-Identifier: Apache-2.0
"""What firmware and boards do wrong, on machines doctored by QEMU's options: Quire comes up, and says what it found."""
import os
import re
import socket
import struct

import pytest
from harness import BUILD

pytestmark = pytest.mark.only_vendor("svm", reason="QEMU's options make the machine")

HELLO = {"hello.elf": os.path.join(BUILD, "guests/hello.elf")}


def machine_section(name, *lines):
    return "\n".join([f"[vm {name}]", "kernel = hello.elf", "memory = 16M", "test_ports = on", *lines, ""])


def hello_runs(machine, name="good"):
    """The guest of that name runs to its end."""
    assert machine.monitor.wait_stopped(name) == "exit port 0xf4 value 42"


class Hmp:
    """QEMU's own monitor, on a socket in the case's folder."""

    PROMPT = b"(qemu) "

    def __init__(self, folder):
        self.path = os.path.join(folder, "hmp")
        self.stream = None

    @property
    def options(self):
        return ("-monitor", f"unix:{self.path},server=on,wait=off")

    def ask(self, line):
        """Sends a command, returns what it printed."""
        if self.stream is None:
            self.stream = socket.socket(socket.AF_UNIX)
            self.stream.connect(os.path.relpath(self.path))  # an address holds 107 bytes
            self._until_prompt()
        self.stream.sendall(line.encode() + b"\n")
        return self._until_prompt()

    def _until_prompt(self):
        data = b""
        while not data.endswith(self.PROMPT):
            piece = self.stream.recv(65536)
            assert piece, "QEMU has closed its monitor"
            data += piece
        return data.decode("latin-1")


@pytest.fixture
def hmp(folder):
    return Hmp(folder)


# ---- processors ----
def second_cpu(lacking):
    """Options for a second processor that lacks a feature which the first one has."""
    return ("-smp", "1,sockets=2,maxcpus=2", "-device", f"max-x86_64-cpu,socket-id=1,core-id=0,thread-id=0,{lacking}=off")


@pytest.mark.parametrize("lacking, words", [
    ("svm", "cpu 1: left out: .*does not offer AMD-V"),
    ("npt", "cpu 1: left out: .*no nested paging"),
    ("smap", "APIC id 1 has no smap.*left out"),
])
def test_cpu_left_out(boot, lacking, words):
    """A processor that can't run guests is given none: not by choice, and not by `cpu =` either."""
    text = machine_section("good") + machine_section("pinned", "cpu = 1") + "[host]\nwhen_idle = poweroff\n"
    machine = boot(text, HELLO, extra=second_cpu(lacking))
    machine.expect(words)
    machine.expect("cpu: 1 of 2 are up")
    machine.expect("vm pinned: not started: cpu = 1: .*CPU")
    hello_runs(machine)
    machine.wait_end()


# ---- clocks ----
@pytest.mark.parametrize("options, words", [
    ((), "TSC at .* by PM timer"),
    (("-machine", "acpi=off"), "TSC at .* by PIT"),
    (("-machine", "acpi=off,pit=off"), "the TSC's 1000 MHz are a guess, by nothing"),
], ids=["all", "no-acpi", "none"])
def test_clock_sources(boot, options, words):
    """What measures the time stamp counter when others are missing; with none of them a warning says so."""
    machine = boot("[host]\nlog_level = debug\n" + machine_section("good"), HELLO, extra=options)
    hello_runs(machine)
    log = "\n".join(machine.monitor.command("dmesg"))
    assert re.search(words, log), log


# ---- machine checks ----
def test_machine_check_is_told(boot, hmp):
    """An error that the host can't contain: the page names bank, status and address."""
    machine = boot(machine_section("good"), HELLO, extra=hmp.options)
    machine.panic_expected = True
    hello_runs(machine)
    hmp.ask("mce 0 3 0xbe00000000000135 0x5 0x12345000 0x8c")
    machine.expect("PANIC: machine check on CPU 0: .*MCG_STATUS 5")
    machine.expect("PANIC: .*bank 3: status be00000000000135, address 0000000012345000, misc 000000000000008c")
    machine.expect("CPU 0 stopped")


def test_machine_check_contained(boot, hmp):
    """One that nobody has consumed yet is told, and all goes on; the next is no shutdown."""
    machine = boot(machine_section("good"), HELLO, cpu="max,vendor=GenuineIntel", extra=hmp.options)
    hello_runs(machine)
    for address in (0x5000, 0x6000):
        hmp.ask(f"mce 0 4 0xbd000000000000c0 0x5 {address:#x} 0x8c")
        machine.expect(f"machine check: CPU 0 bank 4: status bd000000000000c0, address 000000000000{address:x}")
    machine.monitor.command("vm list")


# ---- consoles ----
def acpi_table(folder, signature, body):
    """Options for one more ACPI table."""
    path = os.path.join(folder, signature)
    with open(path, "wb") as stream:
        stream.write(body)
    return ("-acpitable", f"sig={signature},data={path}")


@pytest.mark.parametrize("space, address", [(1, 0x2f8), (0, 0xfed90000)], ids=["port", "memory"])
def test_spcr_names_nothing(boot, folder, space, address):
    """A table that names a serial port that isn't there: the one that spoke until then goes on, and the log says so."""
    body = bytes([0, 0, 0, 0]) + struct.pack("<BBBBQ", space, 8, 0, 1, address) + bytes(6) + bytes([7]) + bytes(21)
    machine = boot(machine_section("good"), HELLO, extra=acpi_table(folder, "SPCR", body))
    machine.expect("serial: .*SPCR names a port that doesn't answer")
    hello_runs(machine)


def test_screen_shows_the_earliest_refusal(boot, folder, hmp):
    """Before the kernel has page tables of its own, too: there may be no serial port to read it from."""
    machine = boot(machine_section("good"), HELLO, cpu="max,-pat", extra=("-device", "ramfb", *hmp.options))
    machine.expect("the processor has no page attribute table")
    machine.expect("it is safe to turn the machine off")
    path = os.path.join(folder, "screen.ppm")
    hmp.ask(f"screendump {path}")
    with open(path, "rb") as stream:
        assert stream.read().count(bytes([0xd0] * 3)) > 1000  # the ink of letters


# ---- devices that firmware leaves on ----
BUS_MASTER = 4
STICKS = {
    "xhci": ("-device", "qemu-xhci", "-device", "usb-storage,drive=stick,bootindex=0"),
    "nvme": ("-device", "nvme,drive=stick,serial=1,bootindex=0"),
    "ahci": ("-device", "ide-hd,drive=stick,bus=ide.0,bootindex=0"),
}


@pytest.mark.parametrize("stick", STICKS)
def test_devices_end_dma(machine_factory, hmp, stick):
    """Started from each kind of disk, firmware's drivers end in peace; then no device but the screen may write to memory."""
    path = machine_factory.image(machine_section("good"), HELLO)
    extra = ("-drive", f"if=none,id=stick,format=raw,file={path},snapshot=on", *STICKS[stick],
             "-device", "pcie-root-port,id=root1", "-device", "e1000e,bus=root1", "-device", "VGA", *hmp.options)
    machine = machine_factory.start(path, extra=extra)
    machine.expect("vm good: stopped")
    found = re.findall(r"Bus\s+(\d+), device\s+(\d+), function (\d+):\s+([^:]+):", hmp.ask("info pci"))
    assert len(found) >= 7
    for bus, device, function, kind in found:
        hmp.ask(f"o /w 0xcf8 {1 << 31 | int(bus) << 16 | int(device) << 11 | int(function) << 8 | 4:#x}")
        command = int(hmp.ask("i /w 0xcfc").split(" = ")[1].split()[0], 16)
        if not re.match("VGA|Host bridge|ISA bridge", kind):
            assert not command & BUS_MASTER, f"{bus}:{device}.{function} {kind}"
