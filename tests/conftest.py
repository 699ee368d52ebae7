# SPDX-License-Identifier: Apache-2.0
"""For all tests: where things are, and the harness's plugin."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../tools"), os.path.join(HERE, "boot")]
pytest_plugins = ["harness.plugin"]
