# SPDX-License-Identifier: Apache-2.0
"""QEMU's command line for a machine that boots an image by OVMF, with its serial port on stdio.

KVM is used only where the host can nest: processor flag, device, and the module's `nested`.
Otherwise TCG, whose `-cpu max` has SVM with nested paging. `-bios` keeps no firmware variables,
so that runs don't depend on one another.
"""
import os

OVMF = "/usr/share/ovmf/OVMF.fd"


def _read(path):
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def host_vendor():
    """"vmx", "svm" or None: what the host's processor has."""
    words = set(_read("/proc/cpuinfo").split())
    return "vmx" if "vmx" in words else "svm" if "svm" in words else None


def host_can_nest():
    """Whether a guest of this host's KVM would have VMX or SVM."""
    module = {"vmx": "kvm_intel", "svm": "kvm_amd"}.get(host_vendor())
    return (module is not None and os.access("/dev/kvm", os.R_OK | os.W_OK)
            and _read(f"/sys/module/{module}/parameters/nested").strip() in ("Y", "y", "1"))


def command(image, *, memory=512, cpus=1, kvm=False, cpu=None, icount=None, firmware=OVMF, snapshot=True,
            serial="stdio,signal=off", extra=()):
    """The argument list. `memory` in MiB; `icount` = shift: repeatable to the instruction, one CPU.
    `serial`: QEMU's character device behind COM1."""
    accelerator = "kvm" if kvm else "tcg,thread=multi" if cpus > 1 else "tcg"
    arguments = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-accel", accelerator, "-machine", "q35", "-cpu", cpu or ("host" if kvm else "max"),
        "-smp", str(cpus), "-m", str(memory), "-bios", firmware,
        "-drive", f"if=none,id=disk,format=raw,file={image},snapshot={'on' if snapshot else 'off'}",
        "-device", "virtio-blk-pci,drive=disk,bootindex=1",
        "-chardev", serial.replace(",", ",id=serial,", 1), "-serial", "chardev:serial",
    ]
    if icount is not None:
        if cpus != 1:
            raise ValueError("icount needs one CPU")
        arguments += ["-icount", f"shift={icount},sleep=off", "-rtc", "base=2024-01-01,clock=vm", "-seed", "1"]
    return arguments + list(extra)
