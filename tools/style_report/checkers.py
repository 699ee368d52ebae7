# SPDX-License-Identifier: Apache-2.0
"""What other programs say about the sources: clang-format, gcc's and clang's warnings, cppcheck, clang-tidy."""
import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from .source import Row

JOBS = os.cpu_count() or 1
# Kernel flags that change what the sources mean; what only changes the code that comes out is left out.
FLAGS = ["-std=gnu11", "-ffreestanding", "-fno-pic", "-mcmodel=kernel", "-mno-red-zone", "-mgeneral-regs-only",
         "-fno-strict-aliasing", "-DQUIRE_DEBUG=1", "-I.", "-Ibuild"]
WARNINGS = ["-Wall", "-Wextra", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wvla", "-Wno-unused-parameter",
            "-Wno-initializer-overrides", "-Wno-unknown-pragmas"]  # gcc's own pragmas
LINT_SECONDS = 900


def each(names, command, deadline=None):
    """Runs command(name) for each file, JOBS at a time: (name, output, status), or None for what time didn't suffice."""
    def one(name):
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return None
        try:
            done = subprocess.run(command(name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  timeout=left, check=False)
        except subprocess.TimeoutExpired:
            return None
        return name, done.stdout, done.returncode
    with ThreadPoolExecutor(JOBS) as pool:
        return list(pool.map(one, names))


def complaints(results, pattern):
    """Each different line about a file of ours that matches, in the order of the files."""
    lines = (line.removeprefix(os.getcwd() + "/").removeprefix("./")
             for result in results if result for line in result[1].splitlines())
    return list(dict.fromkeys(line for line in lines if re.search(pattern, line) and not line.startswith("/")))


def lacking(program, what):
    return None if shutil.which(program) else Row(what, f"no {program}: tools/setup installs it")


def format_row(tree):
    what = "files that clang-format would change"
    results = each(tree.c_files, lambda name: ["clang-format", "--dry-run", "--Werror", name])
    changed = [name for name, _, status in results if status]
    return lacking("clang-format", what) or Row(what, f"{len(changed)} of {len(tree.c_files)}", "0", not changed,
                                                details=changed)


def kernel_sources(tree):
    return [name for name in tree.kernel if name.endswith(".c") and not name.startswith("boot/efi")]


def warning_rows(tree):
    rows, pattern = [Row("gcc warnings", "0 (the build stops at one)", "0", True)], r": (warning|error|fatal error):"
    what = "clang warnings, kernel"
    missing = lacking("clang", what)
    if missing:
        return [*rows, missing]
    results = each(kernel_sources(tree), lambda name: ["clang", *FLAGS, *WARNINGS, "-fsyntax-only", name])
    found = complaints(results, pattern)
    return [*rows, Row(what, str(len(found)), "0", not found, details=found)]


def lint_row(tree, program, pattern, command):
    what = f"{program}, kernel"
    missing = lacking(program, what)
    if missing:
        return missing
    results = each(kernel_sources(tree), command, time.monotonic() + LINT_SECONDS)
    skipped = sum(result is None for result in results)
    found = complaints(results, pattern)
    value = f"{len(found)}" + (f", {skipped} files not reached" if skipped else "")
    return Row(what, value, "0", not found and not skipped, details=found)


def lint_rows(tree):
    # Attributes confuse cppcheck; the linker script's symbols look to it like objects that are compared.
    cppcheck = ["cppcheck", "--quiet", "-D__attribute__(x)=", "--suppress=comparePointers", "--enable=warning,portability", "--inline-suppr", "--std=c11", "--language=c",
                "--platform=unix64", "--suppress=missingIncludeSystem", "--suppress=preprocessorErrorDirective",
                "-D__x86_64__", "-D__GNUC__=12", "-DQUIRE_DEBUG=1", "-I.", "-Ibuild", "--max-configs=1"]
    tidy = ["clang-tidy", "--quiet"]
    return [lint_row(tree, "cppcheck", r": (error|warning|portability):", lambda name: [*cppcheck, name]),
            lint_row(tree, "clang-tidy", r": (warning|error):", lambda name: [*tidy, name, "--", *FLAGS])]


def rows(tree):
    return [format_row(tree), *warning_rows(tree)]
