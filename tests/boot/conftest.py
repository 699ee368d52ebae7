# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the boot tests.

    def test_something(boot):
        machine = boot("[vm a]\\nkernel = a.elf\\n", {"a.elf": path}, cpus=2)

A case that takes `boot` (or `vendor`) runs on both vendors: "svm" on QEMU, "vmx" on Bochs. All that
a machine printed stays below build/test-output/ when the case fails, and is removed when it passes.
"""
import os
import re
import shutil

import pytest
from harness import BUILD, Bochs, Monitor, Qemu, QemuKvm, firmware, guests
from harness import echo as echo_program
from harness.monitor import PANIC
from support import image, qemu

VENDORS = {"svm": Qemu, "vmx": Bochs, **({"kvm": QemuKvm} if qemu.host_can_nest() else {})}
FAILED = pytest.StashKey[bool]()
FOLDER = pytest.StashKey[str]()


@pytest.fixture(params=list(VENDORS))
def vendor(request):
    """The vendor under test; skips a case that is marked for the other one."""
    mark = request.node.get_closest_marker("only_vendor")
    if mark and mark.args[0] != VENDORS[request.param].vendor:
        pytest.skip(f"only on {mark.args[0]}: {mark.kwargs['reason']}")
    return request.param


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Notes on the item how each phase went, for the fixtures that clean up."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        item.stash[FAILED] = True
        if item.stash.get(FOLDER, None):
            report.sections.append(("kept output", item.stash[FOLDER]))


@pytest.fixture
def folder(request):
    """The case's own folder; stays if the case fails."""
    path = os.path.join(BUILD, "test-output", re.sub(r"[^A-Za-z0-9_.-]+", "_", request.node.name).strip("_"))
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    request.node.stash[FOLDER] = path
    yield path
    if not request.node.stash.get(FAILED, False):
        shutil.rmtree(path)


class Factory:
    """Starts machines of one class for one case, and ends them all."""

    def __init__(self, machine_class, folder, efi):
        self.machine_class, self.folder, self.efi = machine_class, folder, efi
        self.machines = []

    def image(self, config, files=None, efi=None, verify=True):
        """Builds an image; returns its path."""
        path = os.path.join(self.folder, f"image{len(os.listdir(self.folder))}.img")
        with open(path[:-4] + ".conf", "w", encoding="utf-8") as stream:
            stream.write(config)
        image.build(path, efi or self.efi, config, files or {}, verify=verify)
        return path

    def start(self, path, machine_class=None, qemu=None, bochs=None, **options):
        """Starts a machine from an image. `qemu`, `bochs`: options for that emulator only."""
        chosen = machine_class or self.machine_class
        options.update((bochs if chosen is Bochs else qemu) or {})
        options.setdefault("firmware", firmware.for_machine(chosen))
        machine = chosen(os.path.join(self.folder, f"run{len(self.machines)}"), path, **options)
        self.machines.append(machine)
        return machine.start()

    def __call__(self, config, files=None, efi=None, verify=True, **options):
        """Image and start in one; returns the machine, with its Monitor as `.monitor`."""
        machine = self.start(self.image(config, files, efi, verify), **options)
        machine.monitor = Monitor(machine)
        return machine

    def finish(self):
        """Ends all machines; returns the last lines of one that panicked, or None."""
        for machine in self.machines:
            machine.kill()
        for machine in self.machines:
            if not getattr(machine, "panic_expected", False) and re.search(PANIC, machine.text, re.MULTILINE):
                return machine.tail()
        return None


@pytest.fixture
def machine_factory(request, vendor, folder):
    """The factory for the vendor under test, with the hypervisor's own EFI program."""
    factory = Factory(VENDORS[vendor], folder, os.path.join(BUILD, "BOOTX64.EFI"))
    yield factory
    panic = factory.finish()
    if panic and not request.node.stash.get(FAILED, False):
        request.node.stash[FAILED] = True
        pytest.fail(f"the hypervisor panicked\n{panic}", pytrace=False)


@pytest.fixture
def boot(machine_factory):
    """boot(config, files, ...) -> a running machine with `.monitor`."""
    return machine_factory


@pytest.fixture(scope="session")
def linux():
    """{"vmlinuz": path, "initrd.img": path}: Debian's kernel, and a busybox that says it's ready."""
    return guests.linux()


@pytest.fixture(scope="session")
def memtest():
    """The path of memtest86+, a bzImage."""
    return guests.memtest()


@pytest.fixture(scope="session")
def echo(tmp_path_factory):
    """The path of the EFI program that stands in for the hypervisor when the harness tests itself."""
    return echo_program.build(str(tmp_path_factory.mktemp("echo")))
