/* SPDX-License-Identifier: Apache-2.0 */
// sources: dev/ports.c dev/timer.c dev/pci/*.c dev/virtio/*.c tests/unit/common/fake_bus.c tests/unit/common/heap.c
/*
 * libFuzzer: a guest's rings and buffers, and accesses to the balloon's registers and configuration space, as raw bytes. The first half
 * is memory where the rings lie (shrunk into the places that count), the second half are accesses, six bytes each. Whatever
 * comes, the sanitizers stay silent, no step takes more than its bounded work, and a driver that starts anew is served.
 */
#include "common/virtio_driver.h"
#include "dev/virtio/balloon.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define QUEUES 5u
#define STEP_PAGES (8u * 4096) /* chains at once, of so many pages at most */

static unsigned pages;

static void must(bool condition)
{
	if (!condition)
		abort();
}

static enum status take(void *context, const uint32_t *page, unsigned count)
{
	must(count <= BALLOON_BATCH);
	for (unsigned i = 0; i < count; i++)
		pages += page[i] != UINT32_MAX; /* read them all */
	pages = pages > STEP_PAGES ? pages : pages + 1;
	return OK;
}

static enum status discard(void *context, gpa_t from, uint64_t length)
{
	must(length && from.v <= VIRTIO_MAX_ADDRESS && length <= VIRTIO_MAX_ADDRESS - from.v);
	return OK;
}

static const struct balloon_memory memory = { take, take, discard };

/* 16 descriptors of four bytes (where, length, flags, next), the available ring's index and entries. */
static size_t put_rings(const uint8_t *data, size_t size)
{
	size_t at = 0;

	for (unsigned queue = 0; queue < QUEUES && at + 4 * RING_SIZE + 8 <= size; queue++) {
		for (unsigned i = 0; i < RING_SIZE; i++, at += 4) {
			uint64_t where = data[at] & 0x80 ? (uint64_t)data[at] << 45 : BUFFERS + 0x100u * data[at];

			set(descriptor(queue, i), where,
			    data[at + 1] & 0x80 ? (uint32_t)data[at + 1] << 20 : data[at + 1] * 4u, data[at + 2] & 7,
			    data[at + 3] & 0x1f);
		}
		available(queue)[1] = data[at] & 0x1f;
		for (unsigned i = 0; i < 7; i++)
			available(queue)[2 + i] = data[at + 1 + i] & 0x1f;
		at += 8;
	}
	return at;
}

static void access_one(const uint8_t *d)
{
	unsigned bytes = 1u << (d[1] & 3);
	uint64_t where = (d[2] | (uint64_t)d[3] << 8) & 0xfff & ~(uint64_t)(bytes - 1),
		 value = d[4] | (uint64_t)d[5] << 8;

	pages = 0;
	switch (d[0] % 6) {
	case 0: out(registers + where, bytes, value); break;
	case 1: (void)in(registers + where, bytes); break;
	case 2: config_out(where & 0xff & ~3u, 4, (uint32_t)value << (d[1] >> 3 & 16)); break;
	case 3: (void)config_in(where & 0xff & ~3u, 4); break;
	case 4: notify(d[1] % QUEUES); break;
	case 5: fake_bus_advance(&fake, value * 100); break;
	}
	must(d[0] % 6 == 5 || pages <= STEP_PAGES * QUEUES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct balloon *balloon;
	size_t at;

	driver_bus();
	must(balloon_create(&fake.bus, pci, &memory, NULL, &balloon) == OK);
	driver_start(size && data[0] & 1 ? BITS(29, 28) | BIT(32) | 0x2f : BIT(32) | 0x2f, QUEUES);
	at = put_rings(data, size);
	for (unsigned i = 0; i < QUEUES; i++)
		notify(i);
	for (; at + 6 <= size; at += 6)
		access_one(data + at);
	balloon_poll(balloon);
	memset(guest, 0, sizeof(guest));
	config_out(PCI_BASE_ADDRESS_0, 4, 0xfc000000);
	driver_start(BIT(32), 2);
	set(descriptor(0, 0), BUFFERS, 40, 0, 0);
	offer(0, 0);
	notify(0);
	must(used(0)[1] == 1 && status_of() == 15);
	fake_bus_close(&fake);
	return 0;
}
