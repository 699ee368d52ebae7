#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In a Linux that hosts: each line of /list is a limit in seconds, a program of /kvm and its arguments. Of each: how it
# ended, where it was if an assertion failed, and its last words. paging=off on the kernel's command line: KVM without
# nested paging. Lines are short enough for any console.
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
echo 4 >/proc/sys/vm/nr_hugepages
# One of them is about splitting executable pages: on for it alone.
nx() {
	[ $name != nx_huge_pages_test ] || echo $1 >/sys/module/kvm/parameters/nx_huge_pages
}
echo 1 >/sys/module/kvm/parameters/nx_huge_pages_recovery_ratio
echo 100 >/sys/module/kvm/parameters/nx_huge_pages_recovery_period_ms
if grep -q paging=off /proc/cmdline; then
	module=$(tail -n 1 /etc/modules)
	rmmod $module
	case $module in kvm_intel) insmod /lib/modules/$module.ko ept=0 ;; *) insmod /lib/modules/$module.ko npt=0 ;; esac
fi
while read -r limit name arguments; do
	echo "selftest: begin $name"
	nx 1
	timeout -s KILL $limit /kvm/$name $arguments >/tmp/said 2>&1 </dev/null
	code=$?
	nx 0
	where=$(sed -n '/Test Assertion Failure/{n;s/^ *//p;q}' /tmp/said)
	echo "selftest: end $name $code ${where:+[$where] }$(grep . /tmp/said | tail -n 1)" | cut -c 1-200
done </list
echo "selftest: done"
poweroff -f
