# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the boot tests beside the harness's own (tools/harness/plugin.py)."""
import pytest
from harness import guests
from selftest import build


@pytest.fixture(scope="session")
def memtest():
    """The path of memtest86+, a bzImage."""
    return guests.memtest()


@pytest.fixture(scope="session")
def echo(tmp_path_factory):
    """The path of the EFI program that stands in for the hypervisor when the harness tests itself."""
    return build.build(str(tmp_path_factory.mktemp("echo")))


@pytest.fixture(scope="session")
def liar(tmp_path_factory):
    """The path of the EFI program that starts the hypervisor as bad firmware would."""
    return build.build(str(tmp_path_factory.mktemp("liar")), "liar")
