#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In the benchmark's Linux: the bench guest under KVM, with small pages and with large ones.
grep . /sys/devices/system/cpu/vulnerabilities/*
for run in "4k 8" "2m 18"; do
	echo "bench: begin $run"
	/kvm /bench.elf $run
	echo "bench: status $?"
done
echo "bench: done"
poweroff -f
