# SPDX-License-Identifier: Apache-2.0
"""What goes wrong is told: machines without what is needed, mistakes in the configuration, guests that can't start."""
import os

import pytest
from harness import BUILD

HELLO = {"hello.elf": os.path.join(BUILD, "guests/hello.elf")}
GOOD = "[vm good]\nkernel = hello.elf\nmemory = 16M\ntest_ports = on\n"
REFUSED = "Quire can't start on this machine"


def refused(machine, *words):
    """The page comes, with these words in this order, and then nothing more."""
    machine.expect(REFUSED)
    for text in words:
        machine.expect(text)
    machine.expect("stopped; it is safe")
    assert machine.running()  # it stops there: no reset, no loop


@pytest.mark.only_vendor("svm", reason="every model of Bochs has VMX or SVM")
def test_no_virtualisation(boot):
    """A processor without VMX and SVM."""
    refused(boot(GOOD, HELLO, cpu="max,-svm"), "What is missing: *hardware virtualisation", "VMX .*CPUID leaf 1", "SVM ", "What to change: .*processor with VMX and EPT or with SVM and NPT")


@pytest.mark.only_vendor("svm", reason="every model of Bochs with SVM has nested paging")
def test_no_nested_paging(boot):
    """SVM without NPT."""
    refused(boot(GOOD, HELLO, cpu="max,-npt"), "SVM .*no nested paging", "What to change")


def test_too_little_memory(boot):
    """A machine with less than what the kernel needs, beside the firmware."""
    machine = boot(GOOD, HELLO, memory=64)
    refused(machine, "What is missing: .*memory", "What to change: .*memory")


@pytest.mark.parametrize("text, line, words", [
    ("[vm bad]\nkernel = hello.elf\nmemory = lots\n", 3, "memory"),
    ("[vm bad]\nkernel = hello.elf\nmemroy = 16M\n", 3, "memroy"),
    ("[vm bad]\nkernel = hello.elf\ncpus = 65\n", 3, "cpus"),
    ("[vm bad]\nmemory = 16M\n", 1, "kernel"),
], ids=["value", "key", "range", "missing"])
@pytest.mark.only_vendor("svm", reason="the configuration is read before the vendor matters")
def test_bad_machine(boot, text, line, words):
    """A mistake in one machine's section is told with its line; the others start."""
    machine = boot(f"{text}{GOOD}[host]\nwhen_idle = poweroff\n", HELLO)
    machine.expect(rf"quire.conf line {line}: .*{words}")
    assert machine.monitor.wait_stopped("good") == "exit port 0xf4 value 42"
    machine.wait_end()
    assert "vm bad: started" not in machine.text


def test_missing_file(boot):
    """A guest file that isn't there is named; the others start."""
    text = f"[host]\nwhen_idle = poweroff\n[vm bad]\nkernel = nowhere.elf\nmemory = 16M\n{GOOD}"
    machine = boot(text, HELLO, verify=False)
    machine.expect("nowhere.elf")
    assert machine.monitor.wait_stopped("good") == "exit port 0xf4 value 42"
    machine.wait_end()


@pytest.mark.only_vendor("svm", reason="loaders know no vendor")
def test_no_kernel_at_all(boot, tmp_path):
    """A file that is no guest, and one that does not fit: why, in words."""
    junk = tmp_path / "junk"
    junk.write_bytes(b"no kernel " * 1000)
    text = f"[host]\nwhen_idle = poweroff\n[vm junk]\nkernel = junk\nmemory = 16M\n{GOOD}"
    machine = boot(text, {**HELLO, "junk": str(junk)})
    machine.expect("junk is neither a Linux bzImage nor a multiboot 1 kernel")
    assert machine.monitor.wait_stopped("good") == "exit port 0xf4 value 42"
    machine.wait_end()


@pytest.mark.only_vendor("svm", reason="admission knows no vendor")
def test_more_memory_than_there_is(boot):
    """A machine that the host can't hold is not started; the others are."""
    text = f"[host]\nwhen_idle = poweroff\n[vm huge]\nkernel = hello.elf\nmemory = 4G\n{GOOD}"
    machine = boot(text, HELLO, memory=512)
    machine.expect("vm huge: not started: ")
    assert machine.monitor.wait_stopped("good") == "exit port 0xf4 value 42"
    machine.wait_end()


@pytest.mark.only_vendor("svm", reason="the configuration is read before the vendor matters")
def test_no_good_section(boot):
    """A configuration without any section is no configuration."""
    refused(boot("", {}), "What is missing: *a usable configuration", "What to change: *correct quire.conf")
