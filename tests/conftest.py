# SPDX-License-Identifier: Apache-2.0
"""For all tests: where things are."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "boot"))
