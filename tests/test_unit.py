# SPDX-License-Identifier: Apache-2.0
"""Each unit test program (host build, sanitizers) is one case here, so that one summary counts all."""
import glob
import os
import re
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GUARD = 600 * float(os.environ.get("QUIRE_TIMEOUT_SCALE", "1"))


def named(program, text):
    """With the attacks that the program's cases name, so that `-k attack3_` finds it."""
    attacks = sorted({int(number) for number in re.findall(r"\btest_attack(\d+)_", text)})
    return pytest.param(program, id=" ".join([program] + [f"attack{number}_" for number in attacks]))


def programs():
    """test_X for each tests/unit/test_X.c, and test_X.tsan for those with a line `// threads`."""
    names = []
    for source in sorted(glob.glob(os.path.join(ROOT, "tests/unit/test_*.c"))):
        name = os.path.basename(source)[:-2]
        with open(source, encoding="utf-8") as stream:
            text = stream.read()
        names.append(named(name, text))
        if re.search("^// threads", text, re.MULTILINE):
            names.append(named(name + ".tsan", text))
    return names


@pytest.mark.parametrize("program", programs())
def test_unit(program):
    path = os.path.join(ROOT, "build/unit", program)
    if not os.path.exists(path):
        pytest.fail(f"{path} is not built: run `make unit-programs`", pytrace=False)
    run = subprocess.run([path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=GUARD, check=False)
    output = run.stdout.decode(errors="replace")
    with open(path + ".log", "w", encoding="utf-8") as log:
        log.write(output)
    if run.returncode != 0:
        pytest.fail(f"exit status {run.returncode}; the whole output: {path}.log\n{output[-8000:]}", pytrace=False)
