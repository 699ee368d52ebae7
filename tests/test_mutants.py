# SPDX-License-Identifier: Apache-2.0
"""Each mutant of tests/mutants must be killed by the unit test that it names; a few at once, all of them in test-all."""
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "mutants"))
import kill  # noqa: E402
from list_of_mutants import MUTANTS  # noqa: E402

QUICK = {"gather-frees-before-flush", "split-loses-write", "svm-flush-forgotten"}


def test_list_of_mutants():
    """At least 20, each with a name of its own, in every room that the unit tests build."""
    assert len(MUTANTS) >= 20
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.path.split("/")[0] for mutant in MUTANTS} >= {"mm", "pgm", "svm", "vmx", "vm", "dev"}
    assert QUICK <= {mutant.name for mutant in MUTANTS}


@pytest.mark.parametrize("mutant", [pytest.param(mutant, id=mutant.name, marks=() if mutant.name in QUICK else pytest.mark.slow)
                                    for mutant in MUTANTS])
def test_mutant(mutant):
    """It fits the tree, and its named test passes without it and fails with it."""
    wrong = kill.run([mutant], 1, say=lambda line: None)
    assert not wrong, "\n".join(wrong)
