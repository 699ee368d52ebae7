# SPDX-License-Identifier: Apache-2.0
"""What the kernel's records cost for each page of memory, and how big the kernel is."""
import os
import re
import subprocess

from .source import Row, run

KERNEL = "build/kernel.elf"
PAGE, BLOCK_PAGES = 4096, 512
# Sizes come from the kernel's own headers, through the compiler.
PROBE = """
#include "mm/chunk.h"
#include "pgm/page/page.h"
const unsigned long probe[] = { sizeof(page_record), sizeof(struct block), sizeof(frame_record), sizeof(struct chunk) };
"""


def sizes():
    """Bytes of a page record, a block descriptor, a frame record and a chunk record."""
    command = ["gcc", "-std=gnu11", "-ffreestanding", "-O1", "-I.", "-DQUIRE_DEBUG=1", "-S", "-x", "c", "-", "-o", "-"]
    output = subprocess.run(command, input=PROBE, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [int(value) for value in re.findall(r"^\s*\.quad\s+(\d+)", output, re.M)]


def record_rows():
    page, block, frame, chunk = sizes()
    shared = (block + chunk) / BLOCK_PAGES
    detailed, large = page + frame + shared, shared
    cost = f"{page} + {frame} + ({block} + {chunk}) / {BLOCK_PAGES}"
    return [Row("record bytes per touched 4 KiB page", f"{detailed:.2f} ({100 * detailed / PAGE:.3f} %)", "<= 0.4 %",
                detailed / PAGE <= 0.004, details=[cost]),
            Row("record bytes per page, large memory", f"{large:.2f} ({100 * large / PAGE:.4f} %)", "<= 0.01 %",
                large / PAGE <= 0.0001)]


def size_row():
    if not os.path.exists(KERNEL):
        return Row("kernel, resident", "not built: run make")
    text, data, bss = (int(word) for word in run("size", KERNEL).stdout.splitlines()[1].split()[:3])
    total = text + data + bss
    return Row("kernel, resident", f"{total / 2 ** 20:.2f} MiB", "<= 4 MiB", total <= 4 << 20,
               details=[f"text {text >> 10}, data {data >> 10}, bss {bss >> 10} KiB"])


def rows():
    return [*record_rows(), size_row()]
