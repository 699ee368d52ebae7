#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In the benchmark's Linux: the guests that are there, under KVM. A hypervisor with its own guest; four that share; the bench guest with small pages and
# with large ones; then the dirty log, in the way
# that the processor has, and by write protection if that is another.
grep . /sys/devices/system/cpu/vulnerabilities/*
run() {
	echo "bench: begin $*"
	/kvm "$@"
	echo "bench: status $?"
}
[ -e /hyper.elf ] && run /hyper.elf 4k
[ -e /overcommit.elf ] && {
	/ksm /overcommit.elf
	echo "bench: status $?"
}
[ -e /bench.elf ] || {
	echo "bench: done"
	poweroff -f
}
[ -e /smp ] && for cpus in 1 2 4; do
	run /bench.elf 4k 0 smp=$cpus
done
[ -e /basic ] || {
	echo "bench: done"
	poweroff -f
}
run /bench.elf 4k 8
run /bench.elf 2m 18
if [ "$(cat /sys/module/kvm_intel/parameters/pml 2>/dev/null)" = Y ]; then
	run /bench.elf 4k 0 pml
	rmmod kvm_intel
	insmod /lib/modules/kvm_intel.ko pml=0
fi
run /bench.elf 4k 0 wp
run /bench.elf 2m 0 wp
echo "bench: done"
poweroff -f
