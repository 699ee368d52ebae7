# SPDX-License-Identifier: Apache-2.0
"""From the guests' lines to figures, and from figures to a table.

A figure is instructions per operation, without the loop around it (the row that measures an
empty loop says how much that is). Exits are judged by their mode, memory by its mean.
"""
import collections
import re

ROW = re.compile(r"row (\w+) mode (\d+) sum 0x([0-9a-f]+) count (\d+)")
CLEARING = 262156  # a 2 MiB block by rep stosq

BOOT = re.compile(r"first guest instruction: (\d+) ticks after")

Operation = collections.namedtuple("Operation", "row title judge goal loop")
# goal: at most so many instructions on VMX (background: a quarter of KVM's cost, or less). loop: what is subtracted.
OPERATIONS = [
    Operation("cpuid", "CPUID", "mode", 150, "loop"),
    Operation("out_pit", "OUT 0x43 (PIT)", "mode", 260, "loop"),
    Operation("in_pic", "IN 0x21 (PIC)", "mode", 260, "loop"),
    Operation("ioapic_read", "IOAPIC read (MMIO, decoded)", "mode", 700, "loop"),
    Operation("tpr_write", "LAPIC TPR write (MMIO)", "mode", 700, "loop"),
    Operation("out_user", "OUT 0xed (KVM: answered in user space; Quire: nobody there)", "mode", None, "loop"),
    Operation("page_write", "first write of a 4 KiB page, untouched (clearing included)", "mean", 1150, "loop"),
    Operation("page_there", "the same, frame already there (SLAT fault only)", "mean", 500, "loop"),
    Operation("page_read", "first read of an untouched 4 KiB page", "mean", 10, "loop"),
    Operation("page_write_after_read", "write after such a read", "mean", 1500, "loop"),
    Operation("block_write", "first write of a 2 MiB block, cleared once", "mean", 270000, "loop"),
    Operation("block_write-", f"the same less one clearing by rep stosq ({CLEARING:,})", "mean", 3000, "loop"),
    Operation("block_there", "2 MiB block, memory already there", "mean", 500, "loop"),
    Operation("log_write_wp", "dirty log, guest write, write protection, per page", "mode", 400, "loop"),
    Operation("log_write_pml", "dirty log, guest write, PML, per page", "mean", 30, "loop"),
    Operation("log_write_ad", "dirty log, guest write, dirty bits, per page", "mean", 30, "loop"),
    Operation("log_read_wp", "dirty log, reading and clearing 64 MiB all dirty, write protection, per page", "mean", 20, None),
    Operation("log_read_pml", "the same, PML", "mean", 15, None),
    Operation("log_read_ad", "the same, dirty bits", "mean", 15, None),
    Operation("log_on_wp", "turning the log on over 64 MiB of 4 KiB pages, write protection, per page", "mean", 20, None),
    Operation("log_on_pml", "the same, PML", "mean", 20, None),
    Operation("log_on_ad", "the same, dirty bits", "mean", 20, None),
    Operation("log_split", "first write to a 2 MiB page under the log (write protection): its 4 KiB leaves are made", "mean", 3000, "loop"),
    Operation("collapse", "collapse: 512 pages copied into one large page, in the background", "mean", None, None),
    Operation("handler_hit", "physical access that hits a handler, in the hypervisor", "mean", None, None),
    Operation("write_4k", "physical write of 4 KiB, in the hypervisor", "mean", None, None),
    Operation("read_4k", "physical read of 4 KiB, in the hypervisor", "mean", None, None),
    Operation("boot", "boot: firmware's hand-over to the first guest instruction", "mean", 50000000, None),
]
NESTING = [
    Operation("l2_cpuid", "CPUID of L2, handled by L1: there and back", "mode", None, None),
    Operation("l2_hlt", "HLT of L2, handled by L1", "mode", None, None),
    Operation("l2_touch_there", "L2's first read of a page that L1's table has, per page", "mean", None, None),
    Operation("l2_touch_absent", "L2's first read of a page that L1 maps then (L1's exit included), per page", "mean", None, None),
    Operation("l2_touch_nowhere_yet", "L2's first read of a page that L1's table has, and L1 hasn't touched, per page", "mean", None, None),
    Operation("l2_touch_again", "the same pages once more, per page", "mean", None, None),
    Operation("l1_flush_1000", "L1's INVEPT (SVM: flush at VMRUN) with 1,000 pages shadowed, nothing changed, and L2's next access and exit", "mode", None, None),
    Operation("l1_change_1000", "the same after L1 has changed one of the 1,000", "mode", None, None),
    Operation("zap_1", "the host takes a page away that L2 sees at one address (Quire: by a handler; KVM: madvise)", "mode", None, None),
    Operation("zap_4", "the same, at four addresses", "mode", None, None),
]
SEVERAL = [
    *(Operation(f"smp_write_{n}", f"first write of a 4 KiB page, {n} vcpus at it", "mode", None, "loop") for n in (1, 2, 4)),
    *(Operation(f"ipi_{way}{n}", f"IPI by {title}, send to handler, into a HLT, {n} vcpus", "mode", None, None)
      for way, title in (("", "xAPIC"), ("x2_", "x2APIC")) for n in (2, 4)),
    *(Operation(f"own_smp_write_{n}", f"each vcpu on a processor of its own: first write, {n} vcpus at it", "mode", None, "loop") for n in (1, 2, 4)),
    *(Operation(f"own_ipi_{way}{n}", f"the same: IPI by {title}, {n} vcpus", "mode", None, None)
      for way, title in (("", "xAPIC, into a HLT"), ("spin_", "xAPIC, to one that runs"), ("x2_", "x2APIC, into a HLT"),
                         ("x2_spin_", "x2APIC, to one that runs")) for n in (2, 4)),
]
SHARING = [
    Operation("fuse", "fusing: until all is found, per page of memory won", "mean", None, None),
    Operation("look", "a pass over memory of which all is fused already, per page", "mean", None, None),
    Operation("break_equal", "first write to a page that is shared since", "mode", None, "break_loop"),
    Operation("break_zero", "the same, to one of zeros", "mode", None, "break_loop"),
    Operation("balloon_page", "256 pages given to the balloon at once, in no order, per page", "mean", None, None),
    Operation("balloon_run", "the same, one behind the other", "mean", None, None),
    Operation("held_before", "pages that four machines hold when they have filled their memory", "pages", None, None),
    Operation("held_after", "the same after fusing", "pages", None, None),
    Operation("debian_one", "pages of its memory that a Debian guest of 256 MiB holds at its prompt", "pages", None, None),
    Operation("debian_four", "four of them", "pages", None, None),
    Operation("debian_fused", "four of them after fusing", "pages", None, None),
    Operation("host_before", "pages of the host that they cost (tables, records, processes included)", "pages", None, None),
    Operation("host_after", "the same after fusing", "pages", None, None),
]
ALL = OPERATIONS + NESTING + SEVERAL + SHARING


def parse(text, shift, side):
    """The guests' lines -> {row: {"mode": ..., "mean": ...}} in instructions per operation.

    What a block costs without its clearing is told of Quire only: Linux clears page by page, in its own way.
    """
    found, counted = ROW.findall(text), {operation.row for operation in SHARING if operation.judge == "pages"}
    raw = {row: (int(mode) >> shift, int(total, 16) / int(count) / (1 << shift)) for row, mode, total, count in found if row not in counted}
    pages = {row: {"pages": int(mode)} for row, mode, _, _ in found if row in counted}
    boot = BOOT.search(text)
    if boot:
        raw["boot"] = (int(boot.group(1)) >> shift,) * 2
    figures = pages
    for operation in ALL:
        row = operation.row.rstrip("-")
        if row not in raw or (operation.loop and operation.loop not in raw) or (row != operation.row and side != "quire"):
            continue
        less = (raw[operation.loop][0] if operation.loop else 0) + (CLEARING if operation.row.endswith("-") else 0)
        figures[operation.row] = {"mode": raw[row][0] - less, "mean": round(raw[row][1] - less, 1)}
    return figures


LIMIT = 0.4  # of KVM's cost
NESTING_LIMIT = 0.5
# What stands between a row and its goal, as the profile of one exit shows it.
HELD_BY = {
    "block_write": "the row below says what is not the clearing.",
    "block_write-": "four faults instead of one, each with an exit and a look for a free chunk: the clearing goes in slices of 512 KiB, "
                    "so that no fault keeps interrupts off for long; and an end of a time slice in most.",
    "log_write_pml": "no exit at all: it is one end of a time slice that fell into the row.",
    "log_write_ad": "as with PML.",
}


# What keeps a row above LIMIT.
SLOW_BY = {
    "cpuid": "QEMU's SVM doesn't tell where the next instruction is: this one is fetched by a walk of the guest's tables and decoded.",
    "log_split": "the 512 leaves of the block, filled at its first write: the others are found there. KVM makes one leaf at each write.",
    "block_write": f"{CLEARING:,} of it is the clearing itself, one instruction a word, on both sides; the row below has the rest.",
    "l2_touch_again": "four of it are the guest's own; the rest is one exit of L2 around all pages, and the host's clock.",
    "l1_flush_1000": "on both sides it is the way to L1 and back, which the first row has. Quire looks besides whether L1's tables have become dirty since "
                     "the last time, some hundred instructions a table, and compares those that have; KVM write-protects them, and pays when L1 "
                     "changes one: the row below.",
    "fuse": "the passes read and hash each page, some 4,800 instructions without vector registers; the rest is two comparisons, before the page is "
            "taken from the guest and after, and the switch. KSM takes more passes.",
    "log_write_pml": "neither side has an exit; a mean of so little is one end of a time slice that fell into it.",
}


def _cell(figure, judge):
    if figure is None:
        return "–"
    if judge == "pages":
        return f"{figure['pages']:,}"
    mode, mean = f"{figure['mode']:,}", f"{figure['mean']:,.0f}"
    return f"**{mode}** / {mean}" if judge == "mode" else f"{mode} / **{mean}**"


def _verdict(operation, quire, target):
    if quire is None or operation.goal is None or target != "bochs-vmx":
        return ""
    return " ✓" if quire[operation.judge] <= operation.goal else " ✗"


def _ratio(quire, kvm, judge, limit):
    if not quire or not kvm or kvm[judge] <= 0:
        return "–"
    ratio = quire[judge] / kvm[judge]
    if judge == "pages":
        return f"{ratio:.2f}"
    small = quire[judge] <= 5  # no exit at all on either side
    return f"{ratio:.2f}" + (f" (above {limit})" if ratio > limit and not small else "")


def _above_limit(sides, operations, limit):
    """A line for each row that costs more than `limit` of KVM's."""
    for operation in operations:
        quire, kvm = (sides.get(side, {}).get(operation.row) for side in ("quire", "kvm"))
        if "above" in _ratio(quire, kvm, operation.judge, limit):
            yield f"- **{operation.title}**: {SLOW_BY.get(operation.row) or HELD_BY.get(operation.row, 'not looked into.')}"


def _above_goal(sides):
    """A line for each row above its goal on VMX: what holds it up."""
    for operation in OPERATIONS:
        figure = sides.get("quire", {}).get(operation.row)
        if figure and operation.goal is not None and figure[operation.judge] > operation.goal:
            yield f"- **{operation.title}**, {figure[operation.judge]:,.0f} for {operation.goal:,}: {HELD_BY.get(operation.row, 'not looked into.')}"


def _rows(sides, target, operations, limit):
    """One table, and why rows are above the limit."""
    lines = ["| operation | Quire | KVM | ratio | goal |", "|---|---|---|---|---|"]
    for operation in operations:
        quire, kvm = (sides.get(side, {}).get(operation.row) for side in ("quire", "kvm"))
        if quire is None and kvm is None:
            continue
        goal = "–" if operation.goal is None else f"≤ {operation.goal:,}"
        lines.append(f"| {operation.title} | {_cell(quire, operation.judge)} | {_cell(kvm, operation.judge)} | "
                     f"{_ratio(quire, kvm, operation.judge, limit)} | {goal}{_verdict(operation, quire, target.name)} |")
    slow = list(_above_limit(sides, operations, limit))
    if slow:
        lines += ["", f"Above {limit} of KVM's cost, and why:", "", *slow]
    return [*lines, ""]


def table(results, targets):
    """Markdown: per target Quire, KVM, ratio. results: {target name: {"quire": figures, "kvm": figures}}."""
    lines = []
    for target in targets:
        sides = results.get(target.name)
        if not sides:
            continue
        lines += [f"### {target.title}", "", *_rows(sides, target, OPERATIONS, LIMIT)]
        if target.name == "bochs-vmx":
            lines += ["Above their goal, and what holds them up:", "", *_above_goal(sides), ""]
        for title, operations, limit in (("Nesting", NESTING, NESTING_LIMIT), ("Several processors", SEVERAL, LIMIT), ("Over-commit", SHARING, LIMIT)):
            if any(operation.row in figures for figures in sides.values() for operation in operations):
                lines += [f"#### {title}: {target.title}", "", *_rows(sides, target, operations, limit)]
    return "\n".join(lines)


def changes(old, new, percent=2):
    """What differs from the kept run by more than some percent, one line each."""
    found = []
    for target, sides in new.items():
        for side, figures in sides.items():
            for operation in ALL:
                was = old.get(target, {}).get(side, {}).get(operation.row)
                now = figures.get(operation.row)
                if not was or not now:
                    continue
                before, after = was[operation.judge], now[operation.judge]
                if abs(after - before) * 100 > percent * max(abs(before), 1):
                    found.append(f"{target} {side} {operation.row}: {before:,} -> {after:,}")
    return found
