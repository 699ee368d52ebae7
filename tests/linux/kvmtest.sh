#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In a Linux that hosts: kvmtest with nested paging, and without it. KVMTEST: rounds and machines, on the kernel's command line.
module=$(tail -n 1 /etc/modules)
words=$(sed -n 's/.*kvmtest=\([0-9]*\),\([0-9]*\).*/\1 \2/p' /proc/cmdline)
case $module in kvm_intel) paging=ept ;; *) paging=npt ;; esac
run() {
	echo "kvmtest: begin $module $paging=$(cat /sys/module/$module/parameters/$paging)"
	/kvmtest $words
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
