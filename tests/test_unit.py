# SPDX-License-Identifier: Apache-2.0
"""Each unit test program (host build, sanitizers) is one case here, so that one summary counts all."""
import glob
import os
import re
import subprocess

import pytest
from harness import guard

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GUARD = 600  # seconds in which it could have had a processor

# The sweeps of attack 4 read all of memory after each failure.
SLOW = {(name, "secret-free") for name in ("test_pgm_dirty", "test_attack_4_memory", "test_attack_4_devices")}
LONG = "-long"  # with QUIRE_LONG in the environment: all that the program can do, where it does less in `make test`


def case(program, mode, text):
    """Named after the program, and the attacks that its cases name, so that `-k attack3_` finds it."""
    attacks = sorted({int(number) for number in re.findall(r"\btest_attack(\d+)_", text)})
    name = program if mode == "direct" else f"{program}-{mode}"
    return pytest.param(program, mode, id=" ".join([name] + [f"attack{number}_" for number in attacks]),
                        marks=pytest.mark.slow if (program, mode) in SLOW or mode.endswith(LONG) else ())


def programs():
    """(test_X, host mode) for each tests/unit/test_X.c, and test_X.tsan for those with a line `// threads`. What is
    built with mm's frames runs in both host modes, unless it chooses one itself."""
    cases = []
    for source in sorted(glob.glob(os.path.join(ROOT, "tests/unit/test_*.c"))):
        name = os.path.basename(source)[:-2]
        with open(source, encoding="utf-8") as stream:
            text = stream.read()
        both = re.search(r"^// sources:.* mm/(\*|secret_free)\.c", text, re.M) and 'setenv("QUIRE_MAPPING"' not in text
        modes = ["direct", "secret-free"] if both else ["direct"]
        names = [name, name + ".tsan"] if re.search("^// threads", text, re.M) else [name]
        modes += [mode + LONG for mode in modes] if "QUIRE_LONG" in text else []
        cases += [case(each, mode, text) for each in names for mode in modes]
    return cases


def run(program, mode, *arguments):
    path = os.path.join(ROOT, "build/unit", program)
    if not os.path.exists(path):
        pytest.fail(f"{path} is not built: run `make unit-programs`", pytrace=False)
    environment = {"QUIRE_MAPPING": mode.removesuffix(LONG), **({"QUIRE_LONG": "1"} if mode.endswith(LONG) else {})}
    try:
        ended = guard.run([path, *arguments], GUARD, env={**os.environ, **environment})
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"did not end within {GUARD} s\n{late.output.decode(errors='replace')[-8000:]}", pytrace=False)
    output = ended.stdout.decode(errors="replace")
    log = path + (".log" if mode == "direct" else f".{mode}.log")
    with open(log, "w", encoding="utf-8") as stream:
        stream.write(output)
    if ended.returncode != 0:
        pytest.fail(f"exit status {ended.returncode}; the whole output: {log}\n{output[-8000:]}", pytrace=False)


@pytest.mark.parametrize("program, mode", programs())
def test_unit(program, mode):
    run(program, mode)


@pytest.mark.parametrize("name", sorted(os.path.basename(path)[5:-2] for path in glob.glob(os.path.join(ROOT, "tests/fuzz/fuzz_*.c"))))
def test_fuzz_seeds(name):
    """What fuzzing has found and kept, and no input at all."""
    run(f"fuzz_{name}", "direct", *sorted(glob.glob(os.path.join(ROOT, "tests/fuzz/corpus", name, "*"))))
