# SPDX-License-Identifier: Apache-2.0
"""Host mode secret-free: guests' memory is out of the hypervisor's reach but for a few chunks, and all works as ever."""
import pytest
import test_guests
import test_linux

LEAST = 16
HOST = "mapping = secret-free\nmax_mapped_chunks = {}\n"


def secret_free(text, chunks=LEAST):
    """The configuration in this mode."""
    assert text.startswith("[host]\n")
    return text.replace("[host]\n", "[host]\n" + HOST.format(chunks), 1)


def chunk_map(monitor):
    """The chunk map's counters by their last name."""
    return {row["name"].rsplit("/", 1)[1]: row["value"] for row in monitor.json("stats /PGM/ChunkMap/*")["stats"]}


@pytest.mark.parametrize("pages", ["on", "off"])
def test_guests_in_secret_free(boot, pages):
    """Every small guest, with the smallest chunk map; with small pages those that concern memory."""
    cases = test_guests.CASES if pages == "on" else test_guests.SMALL_PAGES
    machine = boot(secret_free(test_guests.config(cases, f"large_pages = {pages}\n")), test_guests.files(cases), memory=1000)
    test_guests.judge(machine, cases)
    assert f"but for {LEAST} chunks of 2 MiB at a time" in machine.text


@pytest.mark.parametrize("mode", ["direct", "secret-free"])
def test_no_guest_frame_is_mapped(boot, mode):
    """On a running machine: what guests hold is in none of the host's mappings; in mode direct the map isn't used."""
    text = "[host]\nwhen_idle = monitor\n" + test_guests.section("large", "touch2m", 128, "wait") + test_guests.section(
        "small", "touch2m", 64, "wait", "large_pages = off\n")
    text = secret_free(text) if mode == "secret-free" else text
    machine = boot(text, {"touch2m.elf": test_guests.elf("touch2m")}, memory=512)
    monitor = machine.monitor.wait_prompt()
    for name in ("large", "small"):
        monitor.wait_guest_line(name, "waiting") if f"{name}| waiting" not in machine.text else None
    assert monitor.command("check") == ["check: 0 findings"]
    monitor.command("mode json")
    counters = chunk_map(monitor)
    if mode == "direct":
        assert not any(counters.values()), counters
        return
    assert counters["cMax"] == LEAST
    assert counters["c"] <= LEAST and counters["Mapped"] == counters["Unmapped"] + counters["c"], counters
    assert counters["Mapped"] > LEAST and counters["TlbHits"] > 0, counters
    assert counters["TlbMisses"] == counters["Mapped"] + counters["Find"], counters


@pytest.mark.only_vendor("svm", reason="QEMU runs its processors at once; Bochs has test_linux_in_secret_free_on_vmx")
def test_linux_in_secret_free(boot, vendor, linux):
    """Two Debian kernels on two host processors, from start to poweroff; all frames come back."""
    names = ("alpha", "beta")
    machine = boot(secret_free(test_linux.config(vendor, names, 256)), linux, memory=1024, cpus=2)
    test_linux.two_linuxes(machine, names)


@pytest.mark.slow
@pytest.mark.only_vendor("vmx", reason="test_linux_in_secret_free has the other vendor")
def test_linux_in_secret_free_on_vmx(boot, vendor, linux):
    """The same on one processor."""
    names = ("alpha", "beta")
    machine = boot(secret_free(test_linux.config(vendor, names, 256)), linux, memory=768)
    test_linux.two_linuxes(machine, names)


def test_chunks_leave_beside_a_busy_guest(boot):
    """Kernel chunks become free ones while another processor is in a guest that never rests: it answers the flush. The largest map, too."""
    tables = [f"tables{i}" for i in range(6)]  # each takes 4 MiB of the kernel's memory; the host has some in ragged chunks
    text = "[host]\nwhen_idle = monitor\n" + test_guests.section("busy", "stamp", 32, "", "cpu = 1\n") + "".join(
        test_guests.section(name, "hlt", 16, "dead", "cpu = 0\nautostart = off\nmax_access_handlers = 65536\n") for name in tables)
    machine = boot(secret_free(text, 65536), {f"{name}.elf": test_guests.elf(name) for name in ("stamp", "hlt")}, memory=512, cpus=2)
    monitor = machine.monitor.wait_prompt()
    monitor.wait_guest_line("busy", r"round 64\b")
    for _ in range(2):
        for name in tables:
            machine.send(f"vm start {name}\r")
            machine.expect(f"vm {name}: started")
        for name in tables:
            machine.send(f"vm stop {name}\r")
            assert monitor.wait_stopped(name) == "stopped by the operator"
        monitor.wait_prompt()
    monitor.command("mode json")
    moves = {row["name"]: row["value"] for row in monitor.json("stats /GMM/Direct*")["stats"]}
    assert moves["/GMM/DirectEntered"] >= 4 and moves["/GMM/DirectLeft"] >= 4, moves
    assert monitor.json("check")["findings"] == 0
