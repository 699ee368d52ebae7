/* SPDX-License-Identifier: Apache-2.0 */
// sources: dev/ports.c dev/timer.c dev/pci/*.c dev/virtio/ring.c dev/virtio/registers.c dev/virtio/transport.c
/*
 * The virtio transport, by a device that writes back what it reads: initialisation as the manual has it and otherwise, chains of all
 * shapes, rings that lie, interrupts and who wants them, a host without memory, and random bytes in all of a guest's rings.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/virtio_driver.h"

#define ALL (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(3))
#define PLAIN BIT(VIRTIO_F_VERSION_1)
#define BROKEN VIRTIO_CONFIG_S_NEEDS_RESET

static struct virtio echo;
static uint8_t echo_config[10];
static unsigned served, resets, segments;
static enum status answer;
extern long heap_live;

/* What is readable comes back in what is writable. */
static enum status serve(struct virtio *v, unsigned queue, const struct virtio_chain *chain, uint32_t *written)
{
	uint8_t bytes[100];
	size_t done, put;

	if (answer != OK)
		return answer;
	TRY(virtio_read(v, chain, 0, bytes, sizeof(bytes), &done));
	TRY(virtio_write(v, chain, 0, bytes, done, &put));
	*written = (uint32_t)put;
	segments = chain->count;
	served++;
	return OK;
}

static void config_write(struct virtio *v, unsigned offset, unsigned size, uint32_t value)
{
	memcpy(echo_config + offset, &value, size);
}

static void forget(struct virtio *v)
{
	resets++;
}

static const struct virtio_model model = { .name = "echo",
					   .id = 42,
					   .queues = 2,
					   .features = BIT(3),
					   .config_size = sizeof(echo_config),
					   .serve = serve,
					   .config_write = config_write,
					   .reset = forget };

static int open_device(void **state)
{
	driver_bus();
	memset(&echo, 0, sizeof(echo));
	served = resets = 0;
	answer = OK;
	assert_int_equal(virtio_open(&echo, pci, &model, echo_config), OK);
	registers = config_in(PCI_BASE_ADDRESS_0, 4);
	return 0;
}

static int close_device(void **state)
{
	fake_bus_close(&fake);
	return heap_live != 0;
}

/* A chain of two: `length` bytes to read, as many to write. */
static void offer_pair(unsigned queue, uint16_t head, uint32_t length)
{
	set(descriptor(queue, head), BUFFERS, length, VRING_DESC_F_NEXT, head + 1);
	set(descriptor(queue, head + 1), BUFFERS + 0x1000, length, VRING_DESC_F_WRITE, 0);
	offer(queue, head);
}

static void found_by_its_capabilities(void **state)
{
	unsigned seen = 0, at = config_in(PCI_CAPABILITY_LIST, 1);

	assert_int_equal(config_in(0, 4), 0x106a1af4);
	for (unsigned i = 0; at; at = config_in(at + 1, 1), i++) {
		assert_true(i < 10 && at >= 0x40 && at % 4 == 0);
		if (config_in(at, 1) == PCI_CAP_ID_VNDR)
			seen |= 1u << config_in(at + VIRTIO_PCI_CAP_CFG_TYPE, 1);
		else
			assert_int_equal(config_in(at, 1), PCI_CAP_ID_MSIX);
	}
	assert_int_equal(seen, 0x3e);
	assert_int_equal(offered(), ALL);
	out(REGISTER(device_feature_select), 4, 2);
	assert_int_equal(in(REGISTER(device_feature), 4), 0);
	assert_int_equal(in(REGISTER(num_queues), 2), 2);
	assert_int_equal(in(REGISTER(queue_size), 2), VIRTIO_QUEUE_SIZE);
	out(REGISTER(queue_select), 2, 2); /* there is none */
	assert_int_equal(in(REGISTER(queue_size), 2), 0);
	out(REGISTER(queue_size), 2, 8);
	out(REGISTER(queue_enable), 2, 1);
	out(REGISTER(queue_select), 2, 65535);
	out(REGISTER(queue_desc_lo), 4, 8);
	assert_int_equal(in(REGISTER(queue_enable), 2), 0);
}

static void features_are_settled(void **state)
{
	static const struct {
		uint64_t features;
		bool good;
	} cases[] = { { 0, false },  { BIT(3), false },       { PLAIN, true },
		      { ALL, true }, { ALL | BIT(5), false }, { PLAIN | BIT(40), false } };

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		driver_start(cases[i].features, 1);
		assert_int_equal(status_of() & 15, cases[i].good ? 15 : 3);
		assert_int_equal(echo.accepted, cases[i].features);
		if (!cases[i].good)
			continue;
		accept(0); /* too late */
		assert_int_equal(echo.accepted, cases[i].features);
	}
	assert_int_equal(status_of(), 3);
	/* Only a reset takes a bit away. */
	driver_start(PLAIN, 1);
	out(REGISTER(device_status), 1, 1);
	assert_int_equal(status_of(), 15);
	resets = 0;
	out(REGISTER(device_status), 1, 0);
	assert_int_equal(resets, 1);
	assert_int_equal(status_of(), 0);
	assert_int_equal(in(REGISTER(queue_enable), 2), 0);
	assert_int_equal(in(REGISTER(queue_desc_lo), 8), 0);
}

static void registers_by_width(void **state)
{
	out(REGISTER(queue_select), 2, 1);
	out(REGISTER(queue_desc_lo), 8, UINT64_C(0x123456789abcd0)); /* counts as two */
	assert_int_equal(in(REGISTER(queue_desc_hi), 4), 0x123456);
	assert_int_equal(in(REGISTER(queue_desc_lo), 8), UINT64_C(0x123456789abcd0));
	out(REGISTER(queue_desc_lo), 1, 0xff); /* none */
	out(REGISTER(queue_desc_lo) + 2, 2, 0xffff);
	assert_int_equal(in(REGISTER(queue_desc_lo), 4), 0x789abcd0);
	assert_int_equal(in(REGISTER(queue_desc_lo) + 1, 1), 0xbc);
	out(REGISTER(queue_size), 4, 0x40008); /* size, and the vector behind it */
	assert_int_equal(in(REGISTER(queue_size), 2), 8);
	assert_int_equal(in(REGISTER(queue_msix_vector), 2), 4);
	for (unsigned size = 0; size < 70000; size += size < 260 ? 1 : 1237) {
		out(REGISTER(queue_size), 2, 4);
		out(REGISTER(queue_size), 2, size);
		assert_int_equal(in(REGISTER(queue_size), 2),
				 (uint16_t)size && (uint16_t)size <= 128 && !(size & (size - 1)) ? size : 4);
	}
	out(REGISTER(msix_config), 2, 5);
	assert_int_equal(in(REGISTER(msix_config), 2), 5);
	out(REGISTER(msix_config), 2, 6);
	assert_int_equal(in(REGISTER(msix_config), 2), VIRTIO_MSI_NO_VECTOR);
	/* The device's own; nothing before and behind it. */
	out(registers + VIRTIO_AT_DEVICE + 4, 4, 0x11223344);
	assert_int_equal(in(registers + VIRTIO_AT_DEVICE + 5, 2), 0x2233);
	out(registers + VIRTIO_AT_DEVICE + 8, 4, UINT32_MAX);
	out(registers + VIRTIO_AT_DEVICE, 8, UINT64_MAX);
	assert_int_equal(in(registers + VIRTIO_AT_DEVICE + 8, 4), 0);
	assert_int_equal(echo_config[0], 0);
	out(registers + 0xffc, 4, 1), out(registers + 0x1fc, 8, 1), out(registers + VIRTIO_AT_NOTIFY + 8, 2, 2);
}

static void chains_of_all_shapes(void **state)
{
	struct vring_desc *table = (struct vring_desc *)(guest + 0x60000);

	driver_start(ALL, 2);
	for (unsigned i = 0; i < 64; i++)
		guest[BUFFERS + i] = (uint8_t)(i + 1);
	offer_pair(0, 0, 10);
	notify(0);
	assert_int_equal(served, 1);
	assert_int_equal(used(0)[1], 1);
	assert_int_equal(used_entry(0, 0)->id, 0);
	assert_int_equal(used_entry(0, 0)->len, 10);
	assert_memory_equal(guest + BUFFERS + 0x1000, guest + BUFFERS, 10);
	/* In pieces that don't match, scattered over the table. */
	set(descriptor(0, 15), BUFFERS, 3, VRING_DESC_F_NEXT, 7);
	set(descriptor(0, 7), BUFFERS + 3, 8, VRING_DESC_F_NEXT, 1);
	set(descriptor(0, 1), BUFFERS + 0x2000, 4, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 3);
	set(descriptor(0, 3), BUFFERS + 0x2004, 5, VRING_DESC_F_WRITE, 0);
	offer(0, 15);
	notify(0);
	assert_int_equal(used_entry(0, 1)->id, 15);
	assert_int_equal(used_entry(0, 1)->len, 9);
	assert_memory_equal(guest + BUFFERS + 0x2000, guest + BUFFERS, 9);
	/* Indirect, after a direct one. */
	set(&table[2], BUFFERS + 1, 1, VRING_DESC_F_NEXT, 0);
	set(&table[0], BUFFERS, 1, VRING_DESC_F_NEXT, 2);
	set(&table[1], BUFFERS + 0x3000, 9, VRING_DESC_F_WRITE, 0);
	table[2].next = 1;
	set(descriptor(0, 4), BUFFERS + 8, 1, VRING_DESC_F_NEXT, 5);
	set(descriptor(0, 5), 0x60000, 48, VRING_DESC_F_INDIRECT, 0);
	offer(0, 4);
	notify(0);
	assert_int_equal(used_entry(0, 2)->len, 3);
	assert_memory_equal(guest + BUFFERS + 0x3000, "\x09\x01\x02", 3);
	assert_int_equal(segments, 4);
	/* Many, over the ring's end: the rest comes by the timer. */
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < RING_SIZE; i++)
			offer_pair(1, (uint16_t)(i & ~1u), 5);
		served = 0;
		notify(1);
		assert_int_equal(served, 8);
		fake_bus_advance(&fake, 10000);
		assert_int_equal(served, RING_SIZE);
		assert_int_equal(used(1)[1], (uint16_t)(RING_SIZE * (round + 1)));
	}
	assert_int_equal(status_of(), 15);
}

/* What the guest can't mean. Each is offered on a fresh device: it stops, and nothing is served. */
static void rings_that_lie(void **state)
{
	struct vring_desc *table = (struct vring_desc *)(guest + 0x60000);

	for (unsigned i = 0; i < 18; i++) {
		struct vring_desc *d = descriptor(0, 0);

		memset(guest, 0, sizeof(guest));
		served = 0;
		driver_start(i == 10 ? PLAIN : ALL, 1);
		offer_pair(0, 0, 4);
		switch (i) {
		case 0: d[1].flags = VRING_DESC_F_NEXT | VRING_DESC_F_WRITE; break; /* a loop */
		case 1: d[1].next = 1, d[1].flags = VRING_DESC_F_NEXT | VRING_DESC_F_WRITE; break;
		case 2: d[0].next = RING_SIZE; break;
		case 3: available(0)[2] = RING_SIZE; break; /* the head */
		case 4: available(0)[1] = RING_SIZE + 1; break;
		case 5: available(0)[1] = UINT16_MAX; break;
		case 6: d[0].len = 0; break;
		case 7: d[0].addr = UINT64_MAX - 2; break;                         /* wraps */
		case 8: d[1].addr = VIRTIO_MAX_ADDRESS - 3; break;                 /* ends one byte beyond */
		case 9: d[0].flags |= VRING_DESC_F_WRITE, d[1].flags = 0; break;   /* the wrong order */
		case 10: set(&d[1], 0x60000, 16, VRING_DESC_F_INDIRECT, 0); break; /* not agreed on */
		case 11: set(&d[1], 0x60000, 15, VRING_DESC_F_INDIRECT, 0); break;
		case 12: set(&d[1], 0x60000, 0, VRING_DESC_F_INDIRECT, 0); break;
		case 13: set(&d[1], 0x60000, 32, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 0); break;
		case 14: /* nested */
			set(&d[1], 0x60000, 32, VRING_DESC_F_INDIRECT, 0);
			set(&table[0], 0x61000, 16, VRING_DESC_F_INDIRECT, 0);
			set((struct vring_desc *)(guest + 0x61000), BUFFERS, 4, VRING_DESC_F_WRITE, 0);
			break;
		case 15: /* past its table */
			set(&d[1], 0x60000, 16, VRING_DESC_F_INDIRECT, 0);
			set(&table[0], BUFFERS, 4, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1);
			set(&table[1], BUFFERS, 4, VRING_DESC_F_WRITE, 0);
			break;
		case 16: /* longer than the queue */
			set(&d[1], 0x60000, 64 * 16, VRING_DESC_F_INDIRECT, 0);
			for (unsigned n = 0; n < 64; n++)
				set(&table[n], BUFFERS, 1, VRING_DESC_F_WRITE | (n < 63 ? VRING_DESC_F_NEXT : 0),
				    (uint16_t)(n + 1));
			break;
		case 17: /* a table beyond all memory */
			set(&d[1], VIRTIO_MAX_ADDRESS - 15, 16, VRING_DESC_F_INDIRECT, 0);
			break;
		}
		notify(0);
		if (served || !(status_of() & BROKEN))
			fail_msg("case %u: %u served, status %#x", i, served, status_of());
		offer(0, 0);
		notify(0); /* and it stays so */
		fake_bus_advance(&fake, 100000000);
		assert_int_equal(used(0)[1], 0);
	}
	memset(guest, 0, sizeof(guest));
	driver_start(ALL, 1);
	assert_int_equal(status_of(), 15);
}

static void rings_in_odd_places(void **state)
{
	static const struct {
		unsigned field;
		uint64_t value;
	} cases[] = { { 0, 8 },
		      { 1, 1 },
		      { 2, 2 },
		      { 0, VIRTIO_MAX_ADDRESS - 15 },
		      { 1, UINT64_MAX - 1 },
		      { 2, UINT64_MAX - 3 } };

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		driver_start(ALL, 0);
		out(REGISTER(queue_desc_lo) + 8 * cases[i].field, 8, cases[i].value);
		out(REGISTER(queue_enable), 2, 1);
		assert_int_equal(in(REGISTER(queue_enable), 2), 0);
		assert_true(status_of() & BROKEN);
	}
	/* Where no memory is: all ones are read there. */
	driver_start(ALL, 0);
	out(REGISTER(queue_avail_lo), 4, 0x80000000);
	out(REGISTER(queue_enable), 2, 1);
	notify(0);
	assert_true(status_of() & BROKEN);
}

static void interrupts(void **state)
{
	uint64_t table;
	unsigned msix = echo.function.msix.capability;

	driver_start(PLAIN, 2);
	offer_pair(0, 0, 4);
	notify(0);
	assert_true(fake.level[11]);
	assert_int_equal(in(registers + VIRTIO_AT_ISR, 1), 1);
	assert_false(fake.level[11]);
	assert_int_equal(in(registers + VIRTIO_AT_ISR, 1), 0);
	available(0)[0] = VRING_AVAIL_F_NO_INTERRUPT;
	offer_pair(0, 0, 4);
	notify(0);
	assert_false(fake.level[11]);
	virtio_config_changed(&echo);
	assert_true(fake.level[11]);
	assert_int_equal(in(registers + VIRTIO_AT_ISR, 1), VIRTIO_PCI_ISR_CONFIG);
	/* By messages; and only when the index that the guest named is passed. */
	memset(guest + RINGS(0), 0, 0x4000);
	driver_start(ALL, 2);
	table = config_in(PCI_BASE_ADDRESS_1, 4);
	for (unsigned i = 0; i < 6; i++) {
		out(table + 16 * i, 8, 0xfee00000);
		out(table + 16 * i + 8, 8, 0x30 + i);
	}
	config_out(msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	out(REGISTER(queue_select), 2, 0);
	out(REGISTER(queue_msix_vector), 2, 2);
	out(REGISTER(msix_config), 2, 5);
	available(0)[2 + RING_SIZE] = 2; /* from the third on */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(fake.messages, 0);
		offer_pair(0, 0, 4);
		notify(0);
	}
	assert_int_equal(fake.messages, 1);
	assert_int_equal(fake.message_data, 0x32);
	assert_false(fake.level[11]);
	assert_int_equal(used(0)[2 + 4 * RING_SIZE], 3); /* and we want to hear of the next */
	virtio_config_changed(&echo);
	assert_int_equal(fake.message_data, 0x35);
	offer(0, RING_SIZE);
	notify(0);
	assert_int_equal(fake.messages, 3); /* that it is broken */
}

static void not_before_its_time(void **state)
{
	driver_start(PLAIN, 1);
	out(REGISTER(device_status), 1, 0);
	out(REGISTER(device_status), 1, 3);
	accept(PLAIN);
	out(REGISTER(device_status), 1, 11);
	enable_queue(0);
	offer_pair(0, 0, 4);
	notify(0);
	assert_int_equal(served, 0);
	config_out(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	out(REGISTER(device_status), 1, 15);
	assert_int_equal(served, 0); /* it may not reach memory */
	config_out(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(served, 1);
	/* What a driver has notified of too early is served once it is ready. */
	out(REGISTER(device_status), 1, 0);
	memset(guest + RINGS(0), 0, 0x4000);
	out(REGISTER(device_status), 1, 3);
	accept(PLAIN);
	out(REGISTER(device_status), 1, 11);
	enable_queue(0);
	offer_pair(0, 0, 4);
	notify(0);
	out(REGISTER(device_status), 1, 15);
	assert_int_equal(served, 2);
}

static void kept_and_given_later(void **state)
{
	driver_start(PLAIN, 1);
	answer = BUSY;
	offer_pair(0, 2, 4);
	notify(0);
	assert_int_equal(used(0)[1], 0);
	answer = OK;
	offer_pair(0, 6, 4);
	notify(0);
	assert_int_equal(used_entry(0, 0)->id, 6);
	virtio_give(&echo, 0, 2, 3);
	assert_int_equal(used(0)[1], 2);
	assert_int_equal(used_entry(0, 1)->id, 2);
	out(REGISTER(device_status), 1, 0);
	virtio_give(&echo, 0, 2, 3); /* nobody waits for it any more */
	assert_int_equal(used(0)[1], 2);
}

/* Each access to memory fails once, then there is some again: nothing is lost, nothing comes twice but its reading. */
static void without_memory(void **state)
{
	for (long budget = 0;; budget++) {
		memset(guest + RINGS(0), 0, 0x4000);
		driver_start(ALL, 1);
		served = 0;
		offer_pair(0, 0, 4);
		fake.memory_budget = budget;
		notify(0);
		if (fake.memory_budget) {
			fake.memory_budget = -1;
			break;
		}
		fake.memory_budget = -1;
		fake_bus_advance(&fake, 20000000);
		if (status_of() & BROKEN)
			continue; /* the answer itself failed, for which memory was made sure of */
		if (used(0)[1] != 1 || used_entry(0, 0)->len != 4)
			fail_msg("budget %ld: %u served, %u given", budget, served, used(0)[1]);
	}
	assert_int_equal(served, 1);
	assert_int_equal(status_of(), 15);
	answer = NO_MEMORY;
	offer_pair(0, 0, 4);
	notify(0);
	answer = OK;
	notify(0); /* not before its turn */
	assert_int_equal(served, 1);
	fake_bus_advance(&fake, 10000000);
	assert_int_equal(served, 2);
}

static void through_configuration_space(void **state)
{
	unsigned at = echo.window;

	config_out(at + VIRTIO_PCI_CAP_OFFSET, 4,
		   VIRTIO_AT_COMMON + offsetof(struct virtio_pci_common_cfg, num_queues));
	config_out(at + VIRTIO_PCI_CAP_LENGTH, 4, 2);
	assert_int_equal(config_in(at + 16, 4), 2);
	config_out(at + VIRTIO_PCI_CAP_OFFSET, 4, offsetof(struct virtio_pci_common_cfg, device_status));
	config_out(at + VIRTIO_PCI_CAP_LENGTH, 4, 1);
	config_out(at + 16, 1, 3);
	assert_int_equal(status_of(), 3);
	config_out(at + VIRTIO_PCI_CAP_BAR, 1, 1); /* another BAR */
	config_out(at + 16, 1, 0);
	assert_int_equal(status_of(), 3);
	config_out(at + VIRTIO_PCI_CAP_BAR, 1, 0);
	config_out(at + VIRTIO_PCI_CAP_LENGTH, 4, 3);
	config_out(at + 16, 4, 0);
	config_out(at + VIRTIO_PCI_CAP_LENGTH, 4, 4);
	config_out(at + VIRTIO_PCI_CAP_OFFSET, 4, 4096);
	config_out(at + 16, 4, 0);
	config_out(at + VIRTIO_PCI_CAP_OFFSET, 4, 0x12);
	config_out(at + 16, 4, 0);
	assert_int_equal(status_of(), 3);
}

/* Random bytes in rings and registers: no bound is passed, and it can always be reset and used again. */
static void random_rings(void **state)
{
	uint64_t seed = 4711;

	for (unsigned round = 0; round < 3000; round++) {
		driver_start(round % 2 ? ALL : PLAIN, 2);
		for (unsigned i = 0; i < 400; i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			if (i < 200) /* small figures, so that many chains are good ones */
				((uint16_t *)(guest + RINGS(seed >> 60 & 1)))[seed >> 20 & 0x7f] =
					(uint16_t)(seed >> 40 & (seed & 4 ? 7 : 0xffff));
			else if (seed >> 62)
				((uint16_t *)(guest + RINGS(0) + 0x1000 + (seed >> 13 & 0x4000)))[seed >> 20 & 0x1f] =
					(uint16_t)(seed >> 40 & 0x1f);
			else
				out(registers + (seed >> 20 & (seed & 1 ? 0x3f : 0xfff)), 1u << (seed >> 30 & 3),
				    seed >> 33 & 0x1f);
			if (i % 20 == 0)
				notify(seed >> 50 & 1), fake_bus_advance(&fake, 1000);
		}
	}
	memset(guest, 0, sizeof(guest));
	served = 0;
	driver_start(ALL, 1);
	offer_pair(0, 0, 4);
	notify(0);
	assert_int_equal(served, 1);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, open_device, close_device)
	const struct CMUnitTest tests[] = {
		CASE(found_by_its_capabilities),
		CASE(features_are_settled),
		CASE(registers_by_width),
		CASE(chains_of_all_shapes),
		CASE(rings_that_lie),
		CASE(rings_in_odd_places),
		CASE(interrupts),
		CASE(not_before_its_time),
		CASE(kept_and_given_later),
		CASE(without_memory),
		CASE(through_configuration_space),
		CASE(random_rings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
