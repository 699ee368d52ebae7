# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin: `-p harness.plugin`, with tools/ in PYTHONPATH.

    def test_something(boot):
        machine = boot("[vm a]\\nkernel = a.elf\\n", {"a.elf": path}, cpus=2)

A case that takes `boot` (or `vendor`) runs on both vendors: "svm" on QEMU, "vmx" on Bochs; with --quire-serial on the machine
at that line. All that a machine printed stays in the output folder when the case fails, and is removed when it passes.
"""
import os
import re
import shutil

import pytest

from . import BUILD, Bochs, Monitor, Qemu, QemuKvm, SerialMachine, guests, image, qemu
from .monitor import PANIC

EMULATORS = {"svm": Qemu, "vmx": Bochs, **({"kvm": QemuKvm} if qemu.host_can_nest() else {})}
FAILED = pytest.StashKey[bool]()
FOLDER = pytest.StashKey[str]()


def pytest_addoption(parser):
    group = parser.getgroup("quire")
    group.addoption("--quire-on", action="append", choices=list(EMULATORS), help="only on this one; default: on each that is there")
    group.addoption("--quire-serial", metavar="URL", help="a real machine's line: a device, a pseudo terminal, or socket://host:port")
    group.addoption("--quire-power", metavar="COMMAND", help="turns that machine on with the image {image}; it is ended with the case")
    group.addoption("--quire-efi", metavar="FILE", default=os.path.join(BUILD, "BOOTX64.EFI"), help="the UEFI program")
    group.addoption("--quire-output", metavar="FOLDER", default=os.path.join(BUILD, "test-output"), help="where failed cases leave all")


def pytest_configure(config):
    config.addinivalue_line("markers", "only_vendor(vendor, reason): the case is about one vendor's hardware; it skips on the other")


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc):
    """Each case that takes `vendor` once for each machine."""
    if "vendor" in metafunc.fixturenames:
        chosen = ["serial"] if metafunc.config.option.quire_serial else metafunc.config.option.quire_on or list(EMULATORS)
        metafunc.parametrize("vendor", chosen, indirect=True)


def machine_class(vendor):
    return SerialMachine if vendor == "serial" else EMULATORS[vendor]


@pytest.fixture
def vendor(request):
    """The vendor under test; skips a case that is marked for the other one."""
    mark = request.node.get_closest_marker("only_vendor")
    if mark and mark.args[0] != machine_class(request.param).vendor:
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
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", request.node.name).strip("_")
    path = os.path.join(os.path.abspath(request.config.option.quire_output), name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    request.node.stash[FOLDER] = path
    yield path
    if not request.node.stash.get(FAILED, False):
        shutil.rmtree(path)


class Factory:
    """Starts machines of one class for one case, and ends them all."""

    def __init__(self, chosen, folder, efi, **always):
        self.machine_class, self.folder, self.efi, self.always = chosen, folder, efi, always
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
        machine = chosen(os.path.join(self.folder, f"run{len(self.machines)}"), path, **{**self.always, **options})
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
    """The factory for the machine under test, with the hypervisor's own EFI program."""
    option = request.config.option
    always = {"url": option.quire_serial, "power": option.quire_power} if vendor == "serial" else {}
    factory = Factory(machine_class(vendor), folder, option.quire_efi, **always)
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
