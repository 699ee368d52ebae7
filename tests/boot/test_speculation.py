# SPDX-License-Identifier: Apache-2.0
"""What Linux makes of a processor's flaws: in a machine of Quire's the same as on that processor itself."""
import pytest
from harness import guests

CPU = "EPYC-Milan,+svm,+npt"
LINE = "console=ttyS0,115200 quiet cryptomgr.notests"
CONFIG = (f"[host]\nwhen_idle = monitor\n[vm guest]\nkernel = vmlinuz\ninitrd = initrd.img\nmemory = 256M\ncmdline = {LINE}\n")
SEABIOS = "/usr/share/seabios/bios-256k.bin"


def told(machine):
    """All that a Linux at its prompt says of its processor's flaws, and the microcode that it judges by."""
    machine.send("echo begun $((6 * 7)); cd /sys/devices/system/cpu/vulnerabilities; grep . *; grep -m1 microcode /proc/cpuinfo; "
                 "echo unchecked: $(dmesg | grep -c 'unchecked MSR'); echo told $((6 * 7))\r")
    # The shell breaks the line that it echoes where it likes.
    lines = machine.expect(r"(?s)^begun 42(?P<lines>.*?)^told 42", 300).group("lines").replace("\r", "").splitlines()
    return sorted(line.strip() for line in lines if ":" in line)


@pytest.mark.only_vendor("svm", reason="a processor of Bochs' has no flaws that Linux knows, and no controls against them")
def test_vulnerabilities(boot, linux):
    """Debian's kernel on an EPYC-Milan, and as a guest on it."""
    machine = boot(CONFIG, linux, memory=768, cpu=CPU)
    machine.monitor.wait_guest_line("guest", guests.READY, 600)
    machine.monitor.command("console guest", prompt=False)
    machine.send("\r")
    machine.expect(guests.PROMPT)
    guest = told(machine)
    bare = boot.start(machine.image, memory=512, cpu=CPU, firmware=SEABIOS,
                      extra=["-kernel", linux["vmlinuz"], "-initrd", linux["initrd.img"], "-append", LINE])
    bare.expect(guests.PROMPT, 600)
    assert guest == told(bare)
    assert len(guest) > 10 and any(line.startswith("spec_rstack_overflow:Mitigation: safe RET") for line in guest), guest
