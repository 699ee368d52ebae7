#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In the benchmark's Linux: the bench guest under KVM, with small pages and with large ones.
echo 1 >/sys/kernel/mm/transparent_hugepage/khugepaged/defrag 2>/dev/null
for run in "4k 8" "2m 18"; do
	echo "bench: begin $run"
	/kvm /bench.elf $run
	echo "bench: status $?"
done
echo "bench: done"
poweroff -f
