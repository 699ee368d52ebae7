# SPDX-License-Identifier: Apache-2.0
"""Which firmware a machine starts from."""
import os

from support import qemu

from . import BUILD

SLIM = os.path.join(BUILD, "OVMF-slim.fd")


def for_machine(machine_class):
    """Bochs spends most of its time in the firmware: it takes the slim one where there is one."""
    return SLIM if machine_class.name == "Bochs" and os.path.exists(SLIM) else qemu.OVMF
