/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmark of over-commit: one of several machines that hold much alike. From 16 MiB on it fills 32 MiB: a half with pages that each of
 * them has, no two of one machine the same; a quarter with zeros; a quarter with pages by name=N, which nobody else has. Then the host
 * looks for equal pages. Guest 1 writes to what is shared since, and gives pages into its balloon: under Quire virtio's, under
 * tools/bench/kvm.c ("kvm") a port that takes the same array of page numbers. At the end everything is found as it was.
 */
#include "rows.h"

#define AREA (16 * MIB)
#define PAGES (32 * MIB / PAGE)
#define ZEROS (PAGES / 2) /* the first page of each part */
#define OWN (ZEROS + PAGES / 4)
#define ARRAY 256u /* page numbers at once, as Linux' driver has them */
#define ARRAYS 4u
#define SCATTER 37u /* odd: in an order that has no runs, as a free list has them */
#define BALLOON_PORT 0xf6
#define PATIENCE (1ull << 34) /* of the time stamp counter: seconds */

/* Virtual I/O Device (VIRTIO) 1.2, sections 2.7, 3.1 and 4.1. */
#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define BALLOON_ID 0x10451af4u
#define CAPABILITY_VENDOR 9u
#define STATUS 20u /* of the common configuration */
#define QUEUE 8u

static struct {
	struct {
		uint64_t address;
		uint32_t length;
		uint16_t flags, next;
	} descriptor[QUEUE];
	struct {
		uint16_t flags, index, ring[QUEUE];
	} available;
	struct {
		uint16_t flags, index;
		uint32_t ring[QUEUE][2];
	} __attribute__((aligned(4))) used;
} queue __attribute__((aligned(PAGE)));

static uint32_t name, touched, page_number[ARRAY];
static volatile uint16_t *notify;

static uint32_t content(uint32_t page)
{
	return page < ZEROS ? page + 1 : page < OWN ? 0 : name << 24 | page;
}

static volatile uint32_t *page_at(uint32_t page)
{
	return (volatile uint32_t *)(AREA + page * PAGE);
}

static void fill(void)
{
	for (uint32_t page = 0; page < PAGES; page++) {
		uint32_t *to = (uint32_t *)page_at(page), count = PAGE / 4;

		__asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(content(page)) : "memory");
	}
}

/* Guest 1 has written to the first pages of the first two parts, and given the last part's away. */
static void look(void)
{
	bool first = name == 1;

	for (uint32_t page = 0; page < (first ? OWN : PAGES); page++) {
		bool written = first && page % ZEROS < SAMPLES;

		check_equal(page_at(page)[0], written ? 0x5a : content(page));
		check_equal(page_at(page)[PAGE / 4 - 1], content(page));
	}
}

/* ---- the balloon ---- */

static uint32_t config(unsigned slot, unsigned offset)
{
	out32(CONFIG_ADDRESS, 0x80000000u | slot << 11 | offset);
	return in32(CONFIG_DATA);
}

static void set16(uint32_t at, uint16_t value)
{
	*(volatile uint16_t *)at = value;
}

static void set_status(uint32_t common, uint8_t value)
{
	*(volatile uint8_t *)(common + STATUS) = value;
}

/* The first queue's, and no feature but VERSION_1 (bit 32). */
static void start_device(uint32_t common)
{
	set_status(common, 0);
	set_status(common, 3);
	write32(common + 8, 1);
	write32(common + 12, 1);
	set_status(common, 11);
	set16(common + 22, 0);
	set16(common + 24, QUEUE);
	write32(common + 32, (uint32_t)queue.descriptor);
	write32(common + 40, (uint32_t)&queue.available);
	write32(common + 48, (uint32_t)&queue.used);
	queue.available.flags = 1; /* no interrupts */
	set16(common + 28, 1);
	set_status(common, 15);
}

static void open_balloon(void)
{
	uint32_t common = 0, slot = 0;

	while (slot < 32 && config(slot, 0) != BALLOON_ID)
		slot++;
	if (!check(slot < 32))
		return;
	for (uint32_t at = config(slot, 0x34) & 0xff, word; at; at = word >> 8 & 0xff) {
		uint32_t bar, place;

		word = config(slot, at);
		if ((word & 0xff) != CAPABILITY_VENDOR)
			continue;
		bar = config(slot, 0x10 + 4 * (config(slot, at + 4) & 7)) & ~15u;
		place = bar + config(slot, at + 8);
		if (word >> 24 == 1)
			common = place;
		else if (word >> 24 == 2)
			notify = (volatile uint16_t *)place; /* the first queue's is the first */
	}
	out32(CONFIG_ADDRESS, 0x80000000u | slot << 11 | 4);
	out16(CONFIG_DATA, 6); /* memory, bus master */
	if (check(common && notify))
		start_device(common);
}

/* Until the host has done it. */
static void give_array(void)
{
	if (!notify) {
		out32(BALLOON_PORT, (uint32_t)page_number);
		return;
	}
	queue.descriptor[0].address = (uint32_t)page_number;
	queue.descriptor[0].length = sizeof(page_number);
	queue.available.ring[queue.available.index % QUEUE] = 0;
	__atomic_store_n(&queue.available.index, queue.available.index + 1, __ATOMIC_RELEASE);
	*notify = 0;
	for (uint64_t start = rdtsc(); __atomic_load_n(&queue.used.index, __ATOMIC_ACQUIRE) != queue.available.index;)
		if (!check(rdtsc() - start < PATIENCE))
			guest_exit(EXIT_FAILED);
}

/* ARRAYS of them from a page on, every step-th (modulo all) next. */
static void balloon_row(const char *row, uint32_t first, uint32_t step)
{
	uint64_t spent = 0;

	for (uint32_t i = 0; i < ARRAYS * ARRAY; i++) {
		uint64_t before;

		page_number[i % ARRAY] = AREA / PAGE + first + i * step % (ARRAYS * ARRAY);
		if (i % ARRAY != ARRAY - 1)
			continue;
		before = rdtsc();
		give_array();
		spent += rdtsc() - before;
	}
	rows[row_count++] = (struct row){ row, (uint32_t)spent / (ARRAYS * ARRAY), ARRAYS * ARRAY, 0, 0, spent };
}

void guest_main(void)
{
	name = option_number("name=", 1);
	if (name == 1 && !option("kvm"))
		open_balloon();
	fill();
	host_turn("fuse");
	memset(samples, (int)name, sizeof(samples)); /* these pages are looked at, too */
	if (name == 1) {
		ROW("break_loop", WRITE, COUNT, (uint32_t)&touched, 0);
		ROW("break_equal", WRITE, COUNT, (uint32_t)page_at(0), 4096);
		ROW("break_zero", WRITE, COUNT, (uint32_t)page_at(ZEROS), 4096);
		balloon_row("balloon_page", OWN, SCATTER);
		balloon_row("balloon_run", OWN + ARRAYS * ARRAY, 1);
	}
	look();
	print_rows();
}
