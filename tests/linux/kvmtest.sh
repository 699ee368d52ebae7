#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In a Linux that hosts: kvmtest or kvmsmp with nested paging, and without it. Which, rounds and machines: on the kernel's command line.
module=$(tail -n 1 /etc/modules)
words=$(sed -n 's/.*\(kvm[a-z]*\)=\([0-9]*\),\([0-9]*\).*/\1 \2 \3/p' /proc/cmdline)
case $module in kvm_intel) paging=ept ;; *) paging=npt ;; esac
run() {
	echo "kvmtest: begin $module $paging=$(cat /sys/module/$module/parameters/$paging)"
	/$words
	echo "kvmtest: status $?"
}
run
if ! grep -q kvmtest_once /proc/cmdline; then
	rmmod $module
	insmod /lib/modules/$module.ko $paging=0
	run
fi
echo "kvmtest: done"
poweroff -f
