#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In a Linux that hosts: each line of /list is a limit in seconds, a program of /kvm and its arguments. Of each: how it
# ended, where it was if an assertion failed, and its last words.
while read -r limit name arguments; do
	echo "selftest: begin $name"
	timeout -s KILL $limit /kvm/$name $arguments >/tmp/said 2>&1 </dev/null
	code=$?
	where=$(sed -n '/Test Assertion Failure/{n;s/^ *//p;q}' /tmp/said)
	echo "selftest: end $name $code ${where:+[$where] }$(tail -n 1 /tmp/said | cut -c 1-160)"
done </list
echo "selftest: done"
poweroff -f
