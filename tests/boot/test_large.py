# SPDX-License-Identifier: Apache-2.0
"""Much memory and little: a TiB that is mostly promised, and memory that is all there before the first instruction."""
import os

from harness import BUILD

FILES = {"hello.elf": os.path.join(BUILD, "guests/hello.elf"), "hlt.elf": os.path.join(BUILD, "guests/hlt.elf")}
CONFIG = """\
[host]
overcommit = ratio
overcommit_ratio = 500000
[vm big]
kernel = hlt.elf
cmdline = wait
memory = 1T
test_ports = on
[vm full]
kernel = hlt.elf
cmdline = wait
memory = 65M
ram_preallocate = on
test_ports = on
[vm never]
kernel = hello.elf
memory = 8G
ram_preallocate = on
autostart = off
"""


def test_tebibyte_and_preallocation(boot):
    """Attack 14 on a 512 MiB host: info phys answers, nothing is left behind, too much at once is refused."""
    machine = boot(CONFIG, FILES, memory=512)
    monitor = machine.monitor.wait_prompt()
    machine.expect(r"big\| waiting[\s\S]*full\| waiting|full\| waiting[\s\S]*big\| waiting")
    monitor.command("mode json")
    usage = str(monitor.json("info phys"))
    assert f"'ram_pages': {2**40 // 4096}" in usage, usage
    assert f"'ram_pages': {65 * 256}" in usage, usage
    assert f"'private_pages': {65 * 256 - 96}" in usage, usage  # all but the hole below 1 MiB
    answer = monitor.json("vm start never")
    assert "ram_preallocate" in str(answer), answer
    monitor.command("vm stop big")
    monitor.wait_stopped("big")
    monitor.command("vm stop full")
    monitor.wait_stopped("full")
    monitor.command("mode text")
    assert monitor.command("check")[-1] == "check: 0 findings"
