# SPDX-License-Identifier: Apache-2.0
"""The benchmark's picture: Quire beside KVM, instructions per operation, as SVG, drawn by gnuplot."""
import os
import subprocess

from table import OPERATIONS

# Rows that both sides have, in the order of the picture, with labels that fit under a bar.
LABELS = {
    "cpuid": "CPUID", "out_pit": "port", "ioapic_read": "MMIO", "page_read": "first read\\n4 KiB", "page_write": "first write\\n4 KiB",
    "block_there": "2 MiB\\nagain", "log_write_wp": "write under\\nthe log", "log_split": "2 MiB under\\nthe log",
    "log_read_wp": "log read,\\na page", "log_on_wp": "log on,\\na page",
}
SCRIPT = """\
set terminal svg size 900,420 font "sans,12" noenhanced background "#ffffff"
set output "{out}"
set bmargin 4
set title "{title}: instructions per operation (fewer is better)"
set style data histogram
set style histogram cluster gap 1
set style fill solid 0.9 noborder
set boxwidth 0.9
set logscale y
set yrange [1:*]
set grid ytics lc rgb "#dddddd"
set border 3
set tics nomirror
set key top right
set xtics font ",11"
plot "-" using 2:xtic(1) title "Quire" lc rgb "#2166ac", "-" using 2:xtic(1) title "Linux KVM" lc rgb "#bbbbbb"
{rows}"""


def draw(results, target, title, out):
    """One target's picture; operations without a figure on either side are left out."""
    judges = {operation.row: operation.judge for operation in OPERATIONS}
    quire, kvm = results[target]["quire"], results[target]["kvm"]
    rows = [row for row in LABELS if row in quire and row in kvm]
    data = "".join("".join(f'"{LABELS[row]}" {max(side[row][judges[row]], 1)}\n' for row in rows) + "e\n" for side in (quire, kvm))
    subprocess.run(["gnuplot"], input=SCRIPT.format(out=out, title=title, rows=data), text=True, check=True)
    assert os.path.getsize(out)
