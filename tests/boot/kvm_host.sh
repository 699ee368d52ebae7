#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In the Linux that hosts Quire: QEMU with KVM, its serial port on this console.
stty raw -echo
export LD_LIBRARY_PATH=/lib
qemu-system-x86_64 -accel kvm -cpu host -machine q35 -m 400 -nodefaults -no-user-config -display none -no-reboot \
	-L /share -bios /share/OVMF.fd -drive if=none,id=disk,format=raw,file=/quire.img -device virtio-blk-pci,drive=disk,bootindex=1 \
	-serial stdio
echo "kvm-host: QEMU ended with $?"
poweroff -f
