#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In the benchmark's Linux: four Debian guests under QEMU and KVM, through whose memory KSM looks once all are at their prompts. What they hold:
# the resident pages of the guests' memory, less those that share a page with another. Zero pages are shared with the kernel's.
export LD_LIBRARY_PATH=/lib
ksm=/sys/kernel/mm/ksm
size=262144 # KiB
line="console=ttyS0,115200 nokaslr mitigations=off panic=-1 quiet cryptomgr.notests no_timer_check"

start() {
	qemu-system-x86_64 -accel kvm -cpu host -machine q35 -m $((size / 1024)) -nodefaults -no-user-config -display none \
		-no-reboot -L /share -kernel /vmlinuz -initrd /initrd-pci.img -append "$line" \
		-device virtio-balloon-pci,free-page-reporting=on -serial file:/tmp/$1 &
	until grep -q "quire-guest: ready" /tmp/$1 2>/dev/null; do
		kill -0 $! || return 1
		sleep 1
	done
	sleep 5
}

row() {
	kib=$(cat /proc/[0-9]*/smaps 2>/dev/null | awk "/^Size: +$size kB/ { guest = 1 } /^Rss:/ { if (guest) sum += \$2; guest = 0 } END { print sum }")
	held=$((kib / 4 - $(cat $ksm/pages_sharing)))
	echo "row $1 mode $held sum 0x0 count 1"
}

pass() {
	scans=$(cat $ksm/full_scans)
	until [ $(cat $ksm/full_scans) -ge $((scans + 2)) ]; do
		sleep 1
	done
}

# Until a pass finds hardly more: the guests run meanwhile.
fuse() {
	echo 0 >$ksm/sleep_millisecs
	echo 100000000 >$ksm/pages_to_scan
	echo 1 >$ksm/use_zero_pages
	echo 1 >$ksm/run
	before=-1000
	while [ $(($(cat $ksm/pages_sharing) - before)) -gt 100 ]; do
		before=$(cat $ksm/pages_sharing)
		pass
		echo "ksm: $(cat $ksm/full_scans) passes, $(cat $ksm/pages_shared) shared, $(cat $ksm/pages_sharing) sharing"
	done
	echo 0 >$ksm/run
}

for guest in 1 2 3 4; do
	start $guest || cat /tmp/$guest
	[ $guest = 1 ] && row debian_one
done
row debian_four
fuse
row debian_fused
echo "bench: done"
poweroff -f
