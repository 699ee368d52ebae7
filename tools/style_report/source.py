# SPDX-License-Identifier: Apache-2.0
"""The tree's files and what can be counted in them: code lines, file and function lengths, assertions."""
import json
import math
import re
import statistics
import subprocess
from dataclasses import dataclass, field

ROOMS = ["boot", "arch", "lib", "mm", "pgm", "vmx", "svm", "vm", "dev", "monitor"]
SUFFIXES = (".c", ".h", ".asm", ".inc")

FUNCTION_GOAL, FUNCTION_BOUND = 40, 60
# One pass over strings, character constants and comments: a comment's marks within a string are none.
TOKENS = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|//[^\n]*|/\*.*?\*/', re.S)


@dataclass
class Row:
    """One line of the report. good: None when there is no goal."""
    what: str
    value: str
    goal: str = ""
    good: bool = None
    hard: bool = False
    details: list = field(default_factory=list)


def run(*command, check=True):
    return subprocess.run(command, check=check, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def without_comments(text):
    """The same lines with comments blanked; strings stay."""
    def blank(match):
        token = match.group()
        return token if token[0] in "\"'" else "\n" * token.count("\n") or " "
    return TOKENS.sub(blank, text)


def without_asm_comments(text):
    return "\n".join(line.split(";", 1)[0] for line in text.split("\n"))


class Tree:
    """All files that git knows or that are new and not ignored."""

    def __init__(self):
        names = run("git", "ls-files", "--cached", "--others", "--exclude-standard").stdout.splitlines()
        self.text = {}
        for name in sorted(names):
            try:
                with open(name, encoding="utf-8", errors="replace") as stream:
                    self.text[name] = stream.read()
            except (FileNotFoundError, IsADirectoryError):
                continue  # removed, but not yet from the index
        self.kernel = [name for name in self.text if name.split("/")[0] in ROOMS and name.endswith(SUFFIXES)]
        self.c_files = [name for name in self.text if name.endswith((".c", ".h"))]
        self.bare = {name: without_asm_comments(self.text[name]) if name.endswith((".asm", ".inc"))
                     else without_comments(self.text[name]) for name in {*self.kernel, *self.c_files}}

    def code_lines(self, name):
        return sum(1 for line in self.bare[name].split("\n") if line.strip())


def functions(names):
    """(length, name, file:line) of every C function, by ctags."""
    output = run("ctags", "--output-format=json", "--fields=+ne", "--kinds-C=f", "--languages=C", "-f", "-",
                 "--langmap=C:+.h", *names).stdout
    found = []
    for line in output.splitlines():
        tag = json.loads(line)
        if "end" in tag:
            found.append((tag["end"] - tag["line"] + 1, tag["name"], f"{tag['path']}:{tag['line']}"))
    return sorted(found, reverse=True)


def percentile(values, share):
    """The smallest value that at least this share of the values doesn't exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def code_rows(tree):
    rooms = dict.fromkeys(ROOMS, 0)
    efi = 0
    for name in tree.kernel:
        if name.startswith("boot/efi"):
            efi += tree.code_lines(name)
        else:
            rooms[name.split("/")[0]] += tree.code_lines(name)
    total = sum(rooms.values())
    largest = sorted(((tree.code_lines(name), name) for name in tree.kernel), reverse=True)[:8]
    result = [Row(f"code lines, {room}/", f"{lines:,}") for room, lines in rooms.items()]
    result.append(Row("code lines, kernel", f"{total:,}", "<= 45,000", total <= 45000,
                      details=[f"{count} {name}" for count, name in largest]))
    result.append(Row("code lines, UEFI program", f"{efi:,}"))
    tests = sum(tree.code_lines(name) for name in tree.c_files if name.startswith("tests/"))
    result.append(Row("code lines, tests in C", f"{tests:,}"))
    return result


def file_rows(tree):
    lengths = {name: tree.text[name].count("\n") for name in tree.kernel}
    median = statistics.median(lengths.values())
    long_files = sorted(((count, name) for name, count in lengths.items() if count > 300), reverse=True)
    return [Row("file length, median", f"{median:g} lines", "<= 150", median <= 150),
            Row("files over 300 lines", str(len(long_files)), "0", not long_files,
                details=[f"{count} {name}" for count, name in long_files])]


def function_rows(tree):
    found = functions([name for name in tree.kernel if not name.endswith((".asm", ".inc"))])
    lengths = [length for length, _, _ in found]
    ninety = percentile(lengths, 0.9)
    over = [entry for entry in found if entry[0] > FUNCTION_BOUND]
    share = 100 * len(over) / len(lengths)
    longest = [f"{length} {name} {where}" for length, name, where in found[:8]]
    return [Row("functions", f"{len(lengths):,}, median {statistics.median(lengths):g}"),
            Row("function length, 90 % within", f"{ninety} lines", f"<= {FUNCTION_GOAL}", ninety <= FUNCTION_GOAL),
            Row(f"functions over {FUNCTION_BOUND} lines", f"{share:.2f} % ({len(over)})", "< 3 %", share < 3),
            Row("longest functions", f"{lengths[0]} lines", details=longest)]


def assertion_rows(tree):
    count = sum(len(re.findall(r"\b(?:_Static_assert|static_assert)\s*\(", tree.bare[name])) for name in tree.kernel)
    return [Row("static assertions", str(count), ">= 100", count >= 100)]


def rows(tree):
    return code_rows(tree) + file_rows(tree) + function_rows(tree) + assertion_rows(tree)
