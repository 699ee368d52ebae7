# SPDX-License-Identifier: Apache-2.0
"""From the guests' lines to figures, and from figures to a table.

A figure is instructions per operation, without the loop around it (the row that measures an
empty loop says how much that is). Exits are judged by their mode, memory by its mean.
"""
import collections
import re

ROW = re.compile(r"row (\w+) mode (\d+) sum 0x([0-9a-f]+) count (\d+)")
CLEARING = 262156  # a 2 MiB block by rep stosq

Operation = collections.namedtuple("Operation", "row title judge goal loop")
# goal: at most so many instructions on VMX (background: a quarter of KVM's cost, or less).
OPERATIONS = [
    Operation("cpuid", "CPUID", "mode", 150, "loop"),
    Operation("out_pit", "OUT 0x43 (PIT)", "mode", 250, "loop"),
    Operation("in_pic", "IN 0x21 (PIC)", "mode", 250, "loop"),
    Operation("ioapic_read", "IOAPIC read (MMIO, decoded)", "mode", 700, "loop"),
    Operation("tpr_write", "LAPIC TPR write (MMIO)", "mode", 700, "loop"),
    Operation("out_user", "OUT 0xed (KVM: answered in user space; Quire: nobody there)", "mode", None, "loop"),
    Operation("page_write", "first write of a 4 KiB page, untouched (clearing included)", "mean", 1300, "loop"),
    Operation("page_there", "the same, frame already there (SLAT fault only)", "mean", 500, "loop"),
    Operation("page_read", "first read of an untouched 4 KiB page", "mean", 10, "loop"),
    Operation("page_write_after_read", "write after such a read", "mean", 1500, "loop"),
    Operation("block_write", "first write of a 2 MiB block, cleared once", "mean", 270000, "loop"),
    Operation("block_write-", f"the same less one clearing by rep stosq ({CLEARING:,})", "mean", 3000, "loop"),
    Operation("block_there", "2 MiB block, memory already there", "mean", 500, "loop"),
]


def parse(text, shift, side):
    """The guests' lines -> {row: {"mode": ..., "mean": ...}} in instructions per operation.

    What a block costs without its clearing is told of Quire only: Linux clears page by page, in its own way.
    """
    raw = {row: (int(mode) >> shift, int(total, 16) / int(count) / (1 << shift))
           for row, mode, total, count in ROW.findall(text)}
    figures = {}
    for operation in OPERATIONS:
        row = operation.row.rstrip("-")
        if row not in raw or operation.loop not in raw or (row != operation.row and side != "quire"):
            continue
        less = raw[operation.loop][0] + (CLEARING if operation.row.endswith("-") else 0)
        figures[operation.row] = {"mode": raw[row][0] - less, "mean": round(raw[row][1] - less, 1)}
    return figures


def _cell(figure, judge):
    if figure is None:
        return "–"
    mode, mean = f"{figure['mode']:,}", f"{figure['mean']:,.0f}"
    return f"**{mode}** / {mean}" if judge == "mode" else f"{mode} / **{mean}**"


def _verdict(operation, quire, target):
    if quire is None or operation.goal is None or target != "bochs-vmx":
        return ""
    return " ✓" if quire[operation.judge] <= operation.goal else " ✗"


def _ratio(quire, kvm, judge):
    return f"{quire[judge] / kvm[judge]:.2f}" if quire and kvm and kvm[judge] > 0 else "–"


def table(results, targets):
    """Markdown: per target Quire, KVM, ratio. results: {target name: {"quire": figures, "kvm": figures}}."""
    lines = []
    for target in targets:
        sides = results.get(target.name)
        if not sides:
            continue
        lines += [f"### {target.title}", "", "| operation | Quire | KVM | ratio | goal |", "|---|---|---|---|---|"]
        for operation in OPERATIONS:
            quire, kvm = (sides.get(side, {}).get(operation.row) for side in ("quire", "kvm"))
            if quire is None and kvm is None:
                continue
            goal = "–" if operation.goal is None else f"≤ {operation.goal:,}"
            lines.append(f"| {operation.title} | {_cell(quire, operation.judge)} | {_cell(kvm, operation.judge)} | "
                         f"{_ratio(quire, kvm, operation.judge)} | {goal}{_verdict(operation, quire, target.name)} |")
        lines.append("")
    return "\n".join(lines)


def changes(old, new, percent=2):
    """What differs from the kept run by more than some percent, one line each."""
    found = []
    for target, sides in new.items():
        for side, figures in sides.items():
            for operation in OPERATIONS:
                was = old.get(target, {}).get(side, {}).get(operation.row)
                now = figures.get(operation.row)
                if not was or not now:
                    continue
                before, after = was[operation.judge], now[operation.judge]
                if abs(after - before) * 100 > percent * max(abs(before), 1):
                    found.append(f"{target} {side} {operation.row}: {before:,} -> {after:,}")
    return found
