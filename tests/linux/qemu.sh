#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In a Linux that hosts: Debian's QEMU with KVM starts Debian's kernel, whose console is this one.
stty raw -echo
export LD_LIBRARY_PATH=/lib
qemu-system-x86_64 -accel kvm -cpu host -machine pc -m 128 -nodefaults -no-user-config -display none -no-reboot -L /share \
	-bios /share/bios-256k.bin -kernel /vmlinuz -initrd /guest.img -append "$(sed 's/.*l2://' /proc/cmdline)" -serial stdio
echo "l1: QEMU ended with $?"
poweroff -f
