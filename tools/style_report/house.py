# SPDX-License-Identifier: Apache-2.0
"""The house's rules (docs/architecture.md): who may include whom, no cycle, a license line in each file."""
import importlib
import os
import re
import sys

from .source import Row

INCLUDE = re.compile(r'^[ \t]*[#%][ \t]*include[ \t]+"([^"]+)"', re.M)

# An arrow points to what a room may use; it goes on from there, so that monitor/ may use mm/, too.
ARROWS = {
    "boot": ["monitor"],
    "monitor": ["vm"],
    "vm": ["vmx", "svm", "dev"],
    "vmx": ["pgm"],
    "svm": ["pgm"],
    "dev": ["pgm"],
    "pgm": ["mm"],
    "mm": ["arch", "lib"],
    "arch": ["lib"],
    "lib": [],
}
# The same inside the large rooms. "" are the files that lie in the room itself; HUBS are headers of theirs that all below share.
INNER = {
    "vm": {"": [], "machine": ["vcpu", "load"], "vcpu": ["emulate", "config", ""], "load": ["config"], "config": [], "emulate": []},
    "pgm": {"": ["check"], "check": ["shadow", "dirty"], "shadow": ["slat", "page"], "dirty": ["handler"], "handler": ["range"],
            "range": ["page"], "page": ["slat"], "slat": []},
    "monitor": {"": ["command"], "command": ["text"], "text": []},
    "dev": {"": ["legacy", "virtio"], "virtio": ["pci"], "pci": [], "legacy": ["apic"], "apic": []},
    "svm": {"": [], "nested": [""]},
    "vmx": {"nested": [""], "": []},
}
HUBS = {"vm": ["vm/machine.h"], "monitor": ["monitor/internal.h"], "dev": ["dev/bus.h", "dev/clock.h"], "svm": [], "vmx": [],
        "pgm": ["pgm/internal.h", "pgm/state.h", "pgm/pgm.h", "pgm/handlers.h", "pgm/counters.h", "pgm/copy.h", "pgm/walk.h"]}
# Who may not use a hub: what knows neither machine nor vcpu.
APART = {"vm": ["emulate", "config", "load"]}
# The UEFI program is a world of its own: it shares this with the kernel, and lib/, which has no state.
EFI_ROOMS = {"boot", "lib"}
SHARED_HEADERS = {"boot/boot_info.h"}

SPDX = "SPDX-License-Identifier: Apache-2.0"
# Where a line of ours can't stand: the license itself, bytes that a test feeds to a parser, what a program wrote.
NO_SPDX = re.compile(r"^(LICENSE|\.gitignore|tests/fuzz/corpus/.*|docs/benchmarks/results\..*|.*\.(json|png|svg|bin))$")


def reach(arrows):
    """For each room all the rooms that it may include."""
    result = {}

    def visit(room):
        if room not in result:
            result[room] = {room}.union(*(visit(below) for below in arrows[room]))
        return result[room]
    for room in arrows:
        visit(room)
    return result


def inner(name):
    """The room inside its large room: "" for a file that lies in the large room itself."""
    parts = name.split("/")
    return parts[1] if len(parts) > 2 else ""


def inner_is_wrong(allowed, name, target):
    """Does this include run against the arrows inside a large room?"""
    room = name.split("/")[0]
    if room != target.split("/")[0] or room not in INNER:
        return False
    if inner(name) not in allowed[room] or inner(target) not in allowed[room]:
        return True  # a room that the table doesn't know
    if target in HUBS[room]:
        return inner(name) in APART.get(room, ())
    return inner(target) not in allowed[room][inner(name)] and name not in HUBS[room]


def includes(tree):
    """(file, included file, line) for every include of a file of the tree."""
    for name, bare in tree.bare.items():
        for match in INCLUDE.finditer(bare):
            target = match.group(1)
            beside = os.path.normpath(os.path.join(os.path.dirname(name), target))
            target = target if target in tree.text else beside
            if target in tree.text:
                yield name, target, bare.count("\n", 0, match.start()) + 1


def arrow_row(tree):
    allowed, within, wrong = reach(ARROWS), {room: reach(arrows) for room, arrows in INNER.items()}, []
    for name, target, line in includes(tree):
        room, below = name.split("/")[0], target.split("/")[0]
        if room not in ARROWS or target in SHARED_HEADERS:
            continue
        rooms = EFI_ROOMS if name.startswith("boot/efi") else allowed[room]
        if below not in rooms or inner_is_wrong(within, name, target):
            wrong.append(f"{name}:{line} includes {target}")
    return Row("arrows of the house against the rule", str(len(wrong)), "0", not wrong, hard=True, details=wrong)


def cycles(edges):
    """Each cycle once, as a list of files, by depth-first search without recursion."""
    found, done = [], set()
    for start in sorted(edges):
        if start in done:
            continue
        path, stack = [start], [iter(edges[start])]
        while stack:
            after = next(stack[-1], None)
            if after is None:
                stack.pop()
                done.add(path.pop())
            elif after in path:
                found.append(path[path.index(after):] + [after])
            elif after not in done:
                path.append(after)
                stack.append(iter(edges.get(after, ())))
    return found


def cycle_row(tree):
    edges = {}
    for name, target, _ in includes(tree):
        edges.setdefault(name, set()).add(target)
        edges.setdefault(target, set())
    found = cycles({name: sorted(targets) for name, targets in edges.items()})
    return Row("include cycles", str(len(found)), "0", not found, hard=True, details=[" > ".join(c) for c in found])


def spdx_row(tree):
    missing = [name for name, text in tree.text.items()
               if not NO_SPDX.match(name) and not any(SPDX in line for line in text.split("\n")[:3])]
    return Row("files without an SPDX line", str(len(missing)), "0", not missing, hard=True, details=missing)


# A row of a table of keys or commands starts with its name.
KEY = re.compile(r'(?:[A-Z_]+\(|\.name = )"([a-z_]+)"')
COMMAND = re.compile(r'^\t\{ "([a-z ]+)", "', re.M)


def manual_row(tree):
    """The manual names every key of quire.conf and every command of the monitor."""
    manual = tree.text.get("docs/manual.md", "")
    names = [("key", name) for name in KEY.findall(tree.bare.get("vm/config/keys.c", ""))]
    for path in sorted(tree.bare):
        if path.startswith("monitor/command/"):
            names += [("command", name) for name in COMMAND.findall(tree.bare[path])]
    missing = [f"{kind} {name}" for kind, name in names if not re.search(rf"`{re.escape(name)}\b", manual)]
    return Row("keys and commands not in docs/manual.md", f"{len(missing)} of {len(names)}", "0", not missing, hard=True,
               details=missing)


def mutant_row(tree):
    """Each wrong edit that a test must see (tests/mutants) still fits its file; whether it is seen only a run can tell."""
    sys.path.insert(0, "tests/mutants")
    mutants = importlib.import_module("list_of_mutants").MUTANTS
    stale = [f"{mutant.name} in {mutant.path}" for mutant in mutants
             if tree.text.get(mutant.path, "").count(mutant.old) != 1]
    return Row("mutants whose text isn't in their file once", f"{len(stale)} of {len(mutants)}", "0", not stale, details=stale)


def rows(tree):
    return [manual_row(tree), mutant_row(tree), arrow_row(tree), cycle_row(tree), spdx_row(tree)]
