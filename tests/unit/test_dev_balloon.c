/* SPDX-License-Identifier: Apache-2.0 */
// sources: dev/ports.c dev/timer.c dev/pci/*.c dev/virtio/*.c
/*
 * The balloon, with a memory that keeps account of each page: in and out, pages of a lying guest, statistics, hints, reports,
 * both ways in which drivers number the queues, and a host without memory at each step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/virtio_driver.h"
#include "dev/virtio/balloon.h"

#define VERSION BIT(VIRTIO_F_VERSION_1)
#define ALL                                                                                                            \
	(VERSION | BIT(VIRTIO_BALLOON_F_MUST_TELL_HOST) | BIT(VIRTIO_BALLOON_F_STATS_VQ) |                             \
	 BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) | BIT(VIRTIO_BALLOON_F_FREE_PAGE_HINT) |                                 \
	 BIT(VIRTIO_BALLOON_F_REPORTING))
#define PAGES 8192u
#define CONFIG(name) (registers + VIRTIO_AT_DEVICE + offsetof(struct virtio_balloon_config, name))

static struct balloon *balloon;
static bool inside[PAGES];
static unsigned taken, refused, calls;
static uint64_t discarded;
static long memory_budget = -1;
extern long heap_live, heap_budget;

static enum status account(const uint32_t *page, unsigned count, bool in)
{
	assert_true(count <= BALLOON_BATCH);
	calls++;
	if (memory_budget >= 0 && memory_budget-- <= 0)
		return memory_budget = -1, NO_MEMORY;
	for (unsigned i = 0; i < count; i++) {
		if (page[i] >= PAGES || inside[page[i]] == in) {
			refused++;
			continue;
		}
		inside[page[i]] = in;
		taken += in ? 1 : -1u;
	}
	return OK;
}

static enum status inflate(void *context, const uint32_t *page, unsigned count)
{
	assert_ptr_equal(context, &fake);
	return account(page, count, true);
}

static enum status deflate(void *context, const uint32_t *page, unsigned count)
{
	return account(page, count, false);
}

static enum status discard(void *context, gpa_t from, uint64_t length)
{
	if (memory_budget >= 0 && memory_budget-- <= 0)
		return memory_budget = -1, NO_MEMORY;
	discarded += length;
	return OK;
}

static const struct balloon_memory memory = { inflate, deflate, discard };

static int open_device(void **state)
{
	driver_bus();
	memset(inside, 0, sizeof(inside));
	taken = refused = calls = 0;
	discarded = 0;
	assert_int_equal(balloon_create(&fake.bus, pci, &memory, &fake, &balloon), OK);
	registers = config_in(PCI_BASE_ADDRESS_0, 4);
	return 0;
}

static int close_device(void **state)
{
	fake_bus_close(&fake);
	return heap_live != 0;
}

/* `count` pages from `first` on, as one buffer of a queue. */
static void send_pages(unsigned queue, uint32_t first, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		((uint32_t *)(guest + BUFFERS))[i] = first + i;
	set(descriptor(queue, 0), BUFFERS, 4 * count, 0, 0);
	offer(queue, 0);
	notify(queue);
}

static void send(unsigned queue, uint64_t where, uint32_t length, uint16_t flags)
{
	set(descriptor(queue, 0), where, length, flags, 0);
	offer(queue, 0);
	notify(queue);
}

static void pages_go_in_and_out(void **state)
{
	struct balloon_info info;

	driver_start(ALL, 5);
	balloon_describe(balloon, &info);
	assert_true(info.ready);
	assert_int_equal(in(CONFIG(num_pages), 4), 0);
	balloon_ask(balloon, 300);
	assert_true(fake.level[11]);
	assert_int_equal(in(registers + VIRTIO_AT_ISR, 1), VIRTIO_PCI_ISR_CONFIG);
	assert_int_equal(in(CONFIG(num_pages), 4), 300);
	balloon_ask(balloon, 300); /* nothing new */
	assert_false(fake.level[11]);
	send_pages(0, 1000, 300);
	assert_int_equal(taken, 300);
	assert_int_equal(calls, 2);
	assert_int_equal(used(0)[1], 1);
	out(CONFIG(actual), 4, 300);
	out(CONFIG(num_pages), 4, 7); /* ours */
	balloon_describe(balloon, &info);
	assert_int_equal(info.held, 300);
	assert_int_equal(info.asked, 300);
	send_pages(1, 1000, 256);
	assert_int_equal(taken, 44);
	assert_false(inside[1255]);
	assert_true(inside[1256]);
	assert_int_equal(refused, 0);
	balloon_reset(balloon);
	balloon_describe(balloon, &info);
	assert_false(info.ready);
	assert_int_equal(info.held, 0);
	assert_int_equal(info.asked, 300);
}

static void a_lying_guest(void **state)
{
	static const struct {
		unsigned queue;
		uint32_t length;
		uint16_t flags;
		bool broken;
	} cases[] = { { 0, 1021, 0, true },      { 0, 4 * 1024 + 4, 0, true },
		      { 0, 4 * 1024, 0, false }, { 0, 64, VRING_DESC_F_WRITE, false },
		      { 2, 3, 0, false },        { 2, 40000, 0, false },
		      { 3, 3, 0, true },         { 3, 4096, VRING_DESC_F_WRITE, false },
		      { 4, 4096, 0, false },     { 1, 0x7ffffffc, 0, true } };

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		memset(guest, 0, sizeof(guest));
		driver_start(ALL, 5);
		send(cases[i].queue, BUFFERS, cases[i].length, cases[i].flags);
		if (!!(status_of() & VIRTIO_CONFIG_S_NEEDS_RESET) != cases[i].broken)
			fail_msg("case %u: status %#x", i, status_of());
	}
	assert_int_equal(discarded, 0); /* hints that nobody asked for, reports of nothing */
	driver_start(ALL, 0);
	memset(guest, 0, sizeof(guest));
	driver_start(ALL, 5);
	send_pages(0, UINT32_MAX - 3, 8);
	refused = 0;
	taken = 0;
	send_pages(0, 100, 8);
	send_pages(0, 104, 8); /* four of them again */
	assert_int_equal(taken, 12);
	assert_int_equal(refused, 4);
	assert_int_equal(status_of(), 15);
	/* A second buffer for statistics is none of the manual's. */
	send(2, BUFFERS, 20, 0);
	send(2, BUFFERS, 20, 0);
	assert_true(status_of() & VIRTIO_CONFIG_S_NEEDS_RESET);
	memset(guest, 0, sizeof(guest));
	driver_start(ALL, 5);
	send(2, BUFFERS, 20, 0);
	assert_int_equal(status_of(), 15);
}

static void statistics(void **state)
{
	static const uint8_t words[] = { 4, 0, 0, 0x10, 0, 0, 0, 0,    0, 0, 0xff, 0xff, 1, 1, 1, 1,
					 1, 1, 1, 1,    5, 0, 0, 0x20, 0, 0, 0,    0,    0, 0, 6 };
	struct balloon_info info;

	driver_start(ALL, 5);
	balloon_poll(balloon); /* there is nothing to give back */
	memcpy(guest + BUFFERS, words, sizeof(words));
	send(2, BUFFERS, sizeof(words), 0);
	assert_int_equal(used(2)[1], 0);
	balloon_describe(balloon, &info);
	assert_int_equal(info.known, BIT(VIRTIO_BALLOON_S_MEMFREE) | BIT(VIRTIO_BALLOON_S_MEMTOT));
	assert_int_equal(info.statistics[VIRTIO_BALLOON_S_MEMFREE], 0x1000);
	assert_int_equal(info.statistics[VIRTIO_BALLOON_S_MEMTOT], 0x2000);
	balloon_poll(balloon);
	assert_int_equal(used(2)[1], 1);
	balloon_poll(balloon); /* asked already */
	assert_int_equal(used(2)[1], 1);
	guest[BUFFERS + 3] = 0x30;
	send(2, BUFFERS, 10, 0);
	balloon_describe(balloon, &info);
	assert_int_equal(info.statistics[VIRTIO_BALLOON_S_MEMFREE], 0x3000);
	/* The driver goes and comes again: the old buffer is no more. */
	out(REGISTER(device_status), 1, 0);
	balloon_poll(balloon);
	assert_int_equal(used(2)[1], 1);
}

static void hint(uint32_t id)
{
	memcpy(guest + BUFFERS, &id, 4);
	send(3, BUFFERS, 4, 0);
}

static void hints_and_reports(void **state)
{
	struct balloon_info info;
	uint32_t id;

	assert_int_equal(balloon_collect(balloon), NOT_SUPPORTED);
	driver_start(VERSION, 2);
	assert_int_equal(balloon_collect(balloon), NOT_SUPPORTED);
	driver_start(ALL, 5);
	assert_int_equal(balloon_collect(balloon), OK);
	assert_int_equal(balloon_collect(balloon), BUSY);
	id = (uint32_t)in(CONFIG(free_page_hint_cmd_id), 4);
	assert_true(id >= 2);
	hint(id + 1); /* of another time */
	send(3, 0x200000, 0x400000, VRING_DESC_F_WRITE);
	assert_int_equal(discarded, 0);
	hint(id);
	send(3, 0x200000, 0x400000, VRING_DESC_F_WRITE);
	send(3, 0x800000, 0x200000, VRING_DESC_F_WRITE);
	assert_int_equal(discarded, 0x600000);
	assert_int_equal(in(CONFIG(free_page_hint_cmd_id), 4), id);
	hint(VIRTIO_BALLOON_CMD_ID_STOP);
	assert_int_equal(in(CONFIG(free_page_hint_cmd_id), 4), VIRTIO_BALLOON_CMD_ID_DONE);
	send(3, 0x200000, 0x400000, VRING_DESC_F_WRITE);
	assert_int_equal(discarded, 0x600000);
	assert_int_equal(balloon_collect(balloon), OK);
	assert_int_not_equal(in(CONFIG(free_page_hint_cmd_id), 4), id);
	/* One for which the host had no memory: by now the guest may have that page in use again. */
	hint((uint32_t)in(CONFIG(free_page_hint_cmd_id), 4));
	memory_budget = 0;
	send(3, 0x200000, 0x400000, VRING_DESC_F_WRITE);
	id = used(3)[1];
	fake_bus_advance(&fake, 10000000);
	assert_int_equal(used(3)[1], id + 1);
	assert_int_equal(discarded, 0x600000);
	/* Reports need no asking. */
	send(4, 0x400000, 0x200000, VRING_DESC_F_WRITE);
	assert_int_equal(discarded, 0x800000);
	balloon_describe(balloon, &info);
	assert_int_equal(info.discarded, 0x800000);
}

/* However much a guest says it doesn't use, no chain is more than so much work. */
static void a_long_report(void **state)
{
	driver_start(ALL, 5);
	for (unsigned i = 0; i < RING_SIZE; i++)
		set(descriptor(4, i), i * 12 * MIB, 12 * MIB,
		    VRING_DESC_F_WRITE | (i + 1 < RING_SIZE ? VRING_DESC_F_NEXT : 0), (uint16_t)(i + 1));
	offer(4, 0);
	notify(4);
	assert_int_equal(used(4)[1], 1);
	assert_int_equal(discarded, 128 * MIB);
}

/* Queues by the manual's numbers, and one after another as Linux has them, with some features refused. */
static void queues_by_either_number(void **state)
{
	static const struct {
		uint64_t feature;
		unsigned queue, kind; /* 0 statistics, 1 reports */
	} cases[] = { { BIT(VIRTIO_BALLOON_F_REPORTING), 4, 1 },
		      { BIT(VIRTIO_BALLOON_F_REPORTING), 2, 1 },
		      { BIT(VIRTIO_BALLOON_F_STATS_VQ), 2, 0 },
		      { BIT(VIRTIO_BALLOON_F_FREE_PAGE_HINT) | BIT(VIRTIO_BALLOON_F_REPORTING), 4, 1 },
		      { BIT(VIRTIO_BALLOON_F_FREE_PAGE_HINT) | BIT(VIRTIO_BALLOON_F_REPORTING), 3, 1 } };

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		memset(guest, 0, sizeof(guest));
		discarded = 0;
		driver_start(VERSION | cases[i].feature, 2);
		if (cases[i].feature & BIT(VIRTIO_BALLOON_F_FREE_PAGE_HINT))
			enable_queue(cases[i].queue - 1);
		enable_queue(cases[i].queue);
		send(cases[i].queue, 0x200000, 0x1000, cases[i].kind ? VRING_DESC_F_WRITE : 0);
		if (discarded != cases[i].kind * 0x1000u || used(cases[i].queue)[1] != cases[i].kind)
			fail_msg("case %u: %lu discarded", i, discarded);
	}
	memset(guest, 0, sizeof(guest));
	driver_start(VERSION, 3); /* a queue that stands for nothing */
	send(2, BUFFERS, 4, 0);
	assert_true(status_of() & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void without_memory(void **state)
{
	for (long budget = 0; budget < 4; budget++) {
		memset(inside, 0, sizeof(inside));
		memset(guest, 0, sizeof(guest));
		taken = 0;
		driver_start(ALL, 5);
		memory_budget = budget;
		send_pages(0, 0, 1000);
		assert_int_equal(used(0)[1], 0);
		fake_bus_advance(&fake, 10000000);
		assert_int_equal(used(0)[1], 1);
		assert_int_equal(taken, 1000);
		memory_budget = 0;
		send(4, 0x400000, 0x200000, VRING_DESC_F_WRITE);
		assert_int_equal(used(4)[1], 0);
		fake_bus_advance(&fake, 10000000);
		assert_int_equal(used(4)[1], 1);
	}
}

static void creation_fails(void **state)
{
	struct balloon *other = NULL;

	heap_budget = 0;
	assert_int_equal(balloon_create(&fake.bus, pci, &memory, &fake, &other), NO_MEMORY);
	heap_budget = -1;
	for (unsigned i = 0; i < PCI_SLOTS - 2; i++)
		pci->slot[2 + i] = &pci->bridge;
	assert_int_equal(balloon_create(&fake.bus, pci, &memory, &fake, &other), LIMIT);
	assert_null(other);
	for (unsigned i = 0; i < PCI_SLOTS - 2; i++)
		pci->slot[2 + i] = NULL;
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, open_device, close_device)
	const struct CMUnitTest tests[] = {
		CASE(pages_go_in_and_out),     CASE(a_lying_guest),  CASE(statistics),     CASE(hints_and_reports),
		CASE(queues_by_either_number), CASE(without_memory), CASE(creation_fails), CASE(a_long_report),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
