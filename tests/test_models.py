# SPDX-License-Identifier: Apache-2.0
"""The models of tests/models, each searched through by spin: as the code does it nothing goes wrong, and without any of the rules it does."""
import glob
import os
import re
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "tests/models")
MODELS = sorted(os.path.basename(path) for path in glob.glob(os.path.join(FOLDER, "*.pml")))
DEPTH = 10000


def text_of(path):
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def run(folder, *command):
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-4000:]}"
    return done.stdout


@pytest.mark.parametrize("model", MODELS)
def test_model(tmp_path, model):
    """Of all assertions those fail, and only those, that say which rule is broken."""
    text = text_of(os.path.join(FOLDER, model))
    rules = int(re.search(r"^#define RULES (\d+)$", text, re.M).group(1))
    run(tmp_path, "spin", "-a", os.path.join(FOLDER, model))
    run(tmp_path, "gcc", "-O1", "-w", "-DSAFETY", "-o", "pan", "pan.c")
    said = run(tmp_path, "./pan", f"-m{DEPTH}", "-c0", "-E")
    assert "max search depth too small" not in said and "pan: elapsed" in said, said[-4000:]
    assert {int(rule) for rule in re.findall(r"assertion violated \(\(broken!=(\d+)\)", said)} == set(range(1, rules + 1)), said[-4000:]


def test_steps_are_named():
    """The steps of the models stand in the code, in comments of the form (wake.pml: TAKE), and none that isn't one."""
    steps = {model: set(re.findall(r"^([A-Z]+):", text_of(os.path.join(FOLDER, model)), re.M)) for model in MODELS}
    named = {model: set() for model in MODELS}
    for path in glob.glob(os.path.join(ROOT, "vm/**/*.[ch]"), recursive=True) + glob.glob(os.path.join(ROOT, "dev/apic/*.[ch]")):
        for model, names in re.findall(r"\((\w+\.pml): ([A-Z, ]+)\)", text_of(path)):
            wrong = set(names.split(", ")) - steps[model]
            assert not wrong, f"{path}: no step of {model}: {wrong}"
            named[model] |= set(names.split(", "))
    assert named == steps
