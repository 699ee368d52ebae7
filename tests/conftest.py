# SPDX-License-Identifier: Apache-2.0
"""For all tests: where things are, the harness's plugin, and which case is begun when, if two run at a time."""
import os
import sys

import pytest

try:
    from xdist.scheduler import LoadScheduling
except ImportError:
    LoadScheduling = object

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../tools"), os.path.join(HERE, "boot")]
pytest_plugins = ["harness.plugin"]

# The beginnings of the longest cases' names, longest first: begun last, one of them would run alone at the end.
with open(os.path.join(HERE, "longest.txt"), encoding="utf-8") as stream:
    LONGEST = [line.strip() for line in stream if not line.startswith("#")]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Where cases run one after another, they keep the order of their files."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: next((n for n, name in enumerate(LONGEST) if item.name.startswith(name)), len(LONGEST)))


class OneAhead(LoadScheduling):
    """Gives a worker the case that it runs and the next one, where xdist would give it a pile that nobody else can take from."""

    def _send_tests(self, node, num):
        super()._send_tests(node, min(num, 2 - len(self.node2pending[node])))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Only for xdist's own default."""
    return OneAhead(config, log) if config.getvalue("dist") == "load" else None
