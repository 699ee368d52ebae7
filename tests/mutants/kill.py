#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Do the tests see? Each mutant of list_of_mutants.py is one wrong edit of one kernel file; its named test must fail on it.

The edit is made in a copy below build/mutants; what depends on the file is compiled anew, the rest of the unit program is
taken as it was built (`make unit-programs`). A mutant whose test still passes has survived; one whose text is not in the file
exactly once is stale: either fails the run. So does a test that fails without any mutant.

    tests/mutants/kill.py                    all of them
    tests/mutants/kill.py -k flush           those whose name or file matches
    tests/mutants/kill.py --find -k flush    instead of the named case run whole programs, and say which cases fail
"""
import argparse
import concurrent.futures
import os
import pty
import re
import select
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
OUT = os.path.join(ROOT, "build/mutants")
GUARD = 120  # seconds in which the program could have had a processor
sys.path[:0] = [HERE, os.path.join(ROOT, "tools")]
from harness.guard import Clock  # noqa: E402
from list_of_mutants import MUTANTS  # noqa: E402


class Stale(Exception):
    """The mutant doesn't fit the tree any more."""


def make_says(what):
    """A variable of the Makefile, so that flags stand in one place."""
    env = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    run = subprocess.run(["make", "-s", "-C", ROOT, what], stdout=subprocess.PIPE, check=True, env=env)
    return run.stdout.decode().split()


def objects_of(program):
    """The objects that a unit program is linked from."""
    return make_says(f"objects-of-{program}")


def depends(item, path):
    """Was this object made from the file?"""
    with open(os.path.join(ROOT, item[:-2] + ".d"), encoding="utf-8") as stream:
        return path in stream.read().replace("\\\n", " ").replace(":", " ").split()


def edit(mutant, folder):
    """Writes the wrong copy."""
    with open(os.path.join(ROOT, mutant.path), encoding="utf-8") as stream:
        text = stream.read()
    if text.count(mutant.old) != 1:
        raise Stale(f"its text stands {text.count(mutant.old)} times in {mutant.path}")
    copy = os.path.join(folder, mutant.path)
    os.makedirs(os.path.dirname(copy), exist_ok=True)
    with open(copy, "w", encoding="utf-8") as stream:
        stream.write(text.replace(mutant.old, mutant.new))


def build(mutant, program, folder, flags):
    """Compiles what the edit concerns, links it with the rest; returns the program's path."""
    linked = []
    for item in objects_of(program):
        if not depends(item, mutant.path):
            linked.append(item)
            continue
        source = item[len("build/unit/obj/"):-2] + ".c"
        if os.path.exists(os.path.join(folder, source)):
            source = os.path.join(folder, source)
        linked.append(os.path.join(folder, item.replace("/", "_")))
        # A mutant may leave something unused; that isn't what is asked here.
        command = ["gcc", f"-I{folder}", *flags, "-Wno-error", "-w", "-c", source, "-o", linked[-1]]
        run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if run.returncode:
            raise Stale(f"it does not compile:\n{run.stdout.decode(errors='replace')[:2000]}")
    if not any(item.startswith(folder) for item in linked):
        raise Stale(f"{program} is not built from {mutant.path}")
    path = os.path.join(folder, program)
    sanitizers = [flag for flag in flags if flag.startswith("-f") and "sanitize" in flag]
    subprocess.run(["gcc", *sanitizers, "-o", path, *linked, "-lcmocka", "-lpthread"], cwd=ROOT, check=True)
    return path


def cases(path, case=None):
    """Runs a unit program; returns (cases that failed, cases that passed). A crash counts for the case it happened in,
    a hang for none."""
    env = dict(os.environ, **({"QUIRE_CASE": case} if case else {}))
    env["ASAN_OPTIONS"] = "detect_leaks=0"
    # By a terminal, so that what was printed before a crash isn't lost in a buffer.
    master, slave = pty.openpty()
    with subprocess.Popen([path], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=env, cwd=ROOT) as process:
        os.close(slave)
        text, clock, late = b"", Clock(process.pid), False
        while not (late := clock.over(GUARD)):
            if not select.select([master], [], [], 1)[0]:
                continue
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            if not piece:
                break
            text += piece
        process.kill()
    os.close(master)
    if late:
        raise Stale(f"{os.path.basename(path)} {case or ''} was still running after {GUARD} s")
    words = text.decode(errors="replace")
    begun, passed = (re.findall(rf"\[ +{word} *\] (\w+)", words) for word in ("RUN", "OK"))
    return [name for name in dict.fromkeys(begun) if name not in passed], passed


def judge(mutant, flags, find):
    """(good, text) for one mutant."""
    folder = os.path.join(OUT, mutant.name)
    shutil.rmtree(folder, ignore_errors=True)
    program, case = mutant.test.split(":")
    try:
        edit(mutant, folder)
        if find:
            failed, _ = cases(build(mutant, program, folder, flags))
            return case in failed, f"fails {program}: {' '.join(failed) or 'nothing'}"
        failed, passed = cases(build(mutant, program, folder, flags), case)
        if case not in failed + passed:
            return False, f"{program} has no case {case}"
        return case in failed, "killed" if case in failed else f"SURVIVED {mutant.test}"
    except Stale as error:
        return False, f"STALE: {error}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sound(test):
    """The test passes without a mutant."""
    program, case = test.split(":")
    try:
        failed, passed = cases(os.path.join(ROOT, "build/unit", program), case)
    except Stale:
        return False
    return case in passed and not failed


def run(chosen, jobs, find=False, say=print):
    """Judges the mutants; returns the lines of those that aren't as they should be."""
    flags = make_says("unit-flags")
    wrong = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        tests = sorted({mutant.test for mutant in chosen})
        for test, good in zip(tests, pool.map(sound, tests) if not find else [True] * len(tests)):
            if not good:
                wrong.append(f"{test} fails without any mutant")
        for mutant, (good, text) in zip(chosen, pool.map(lambda m: judge(m, flags, find), chosen)):
            line = f"{mutant.name:<34} {mutant.path:<22} {mutant.test}: {text}"
            say(line)
            if not good:
                wrong.append(line)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", metavar="PATTERN", default="", help="a regular expression over names and files")
    parser.add_argument("-j", metavar="N", type=int, default=2, help="so many at a time (2)")
    parser.add_argument("--find", action="store_true", help="run whole programs and say which cases fail")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if re.search(options.k, f"{mutant.name} {mutant.path}")]
    wrong = run(chosen, options.j, options.find)
    print(f"{len(chosen) - len(wrong)} of {len(chosen)} mutants killed" if not options.find else "")
    for line in wrong:
        print(f"wrong: {line}")
    return 1 if wrong or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
