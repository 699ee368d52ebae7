/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine whose memory comes and goes: it gives pages into virtio's balloon and takes them back, and plugs and unplugs virtio-mem's blocks, as the
 * host wants it or, once that is reached, to and fro; with its other processors (cpus=N) writing meanwhile. Pages have few contents, which others
 * have as well. Each page's content is known, and looked at again before it is changed or given away. Until a key is typed; then
 * all is looked at. Silent meanwhile, so that nothing comes between what is typed at the monitor.
 */
#include "smp.h"
#include "virtio.h"

#define FIRST (16 * MIB) /* pages for the balloon, */
#define PAGES 1536u
#define OTHERS (FIRST + PAGES * PAGE) /* and the other processors' */
#define OTHER_PAGES 256u              /* of each */
#define BLOCKS_MOST 64u
#define BATCH 32u
#define KINDS 8u
#define GONE 0xffu
#define UART_DATA 0x3f8
#define UART_STATUS 0x3fd

enum { PLUG, UNPLUG };

/* virtio-mem's, as the device has them. */
struct request {
	uint16_t type, padding[3];
	uint64_t address;
	uint16_t blocks, more_padding[3];
};
struct answer {
	uint16_t type, padding[3], state;
};

extern uint64_t page_root;

static struct virtio_device balloon, memory;
static struct virtio_queue inflate, deflate, plugging;
static uint32_t page_number[BATCH], held;
static uint8_t content[PAGES], block_content[BLOCKS_MOST]; /* GONE: none */
static unsigned blocks, plugged, done[4];
static uint64_t region;
static volatile bool over;

static uint32_t next(uint32_t *dice)
{
	*dice ^= *dice << 13;
	*dice ^= *dice >> 17;
	*dice ^= *dice << 5;
	return *dice;
}

/* 0 is a page of zeros. */
static void fill(uint64_t at, uint64_t size, uint64_t kind)
{
	uint64_t count = size / 8;

	__asm__ volatile("rep stosq" : "+D"(at), "+c"(count) : "a"(kind * 0x0101010101010101) : "memory");
}

static void look(uint64_t at, uint64_t size, uint64_t kind)
{
	for (uint64_t word = at; word < at + size; word += size <= PAGE ? 8 : 520)
		if (*(volatile uint64_t *)word != kind * 0x0101010101010101) {
			check_equal((uint32_t) * (volatile uint64_t *)word, (uint32_t)(kind * 0x01010101));
			return;
		}
}

static void rewrite(uint64_t at, uint8_t *kind, uint32_t *dice)
{
	look(at, PAGE, *kind);
	*kind = next(dice) % KINDS;
	fill(at, PAGE, *kind);
}

/* ---- the balloon ---- */

static void give_or_take(bool give, uint32_t *dice)
{
	unsigned count = 0;

	for (unsigned tries = 0; tries < 4 * BATCH && count < BATCH; tries++) {
		uint32_t page = next(dice) % PAGES;

		if ((content[page] == GONE) == give)
			continue;
		if (give)
			look(FIRST + page * PAGE, PAGE, content[page]);
		content[page] = GONE;
		page_number[count++] = FIRST / PAGE + page;
		if (!give)
			content[page] = KINDS; /* to be filled */
	}
	if (!count)
		return;
	virtio_do(give ? &inflate : &deflate, !give, page_number, count * 4, NULL, 0);
	held += give ? count : 0 - count;
	done[!give] += count;
	virtio_config_set(&balloon, 4, held);
	for (unsigned i = 0; i < count && !give; i++) {
		uint32_t page = page_number[i] - FIRST / PAGE;

		content[page] = next(dice) % KINDS;
		fill(FIRST + page * PAGE, PAGE, content[page]);
	}
}

static void balloon_turn(uint32_t *dice)
{
	uint32_t wanted = virtio_config(&balloon, 0);

	wanted = wanted < PAGES / 2 ? wanted : PAGES / 2;
	if (held + BATCH <= wanted || (held < BATCH && wanted))
		give_or_take(true, dice);
	else if (held)
		give_or_take(false, dice);
}

/* ---- virtio-mem ---- */

/* Another GiB, from 4 GiB on, one to one. */
static void map_region(void)
{
	static uint64_t directory[512] __attribute__((aligned(PAGE)));
	uint64_t *pointers = (uint64_t *)(*(uint64_t *)page_root & ~0xfffull);

	for (unsigned i = 0; i < 512; i++)
		directory[i] = (4096ull * MIB + (uint64_t)i * BLOCK) | 0x83;
	pointers[4] = (uintptr_t)directory | 3;
}

static bool ask(unsigned type, unsigned block)
{
	static struct request r;
	static struct answer a;

	r = (struct request){ .type = (uint16_t)type, .address = region + (uint64_t)block * BLOCK, .blocks = 1 };
	a.type = 0xffff;
	virtio_do(&plugging, 0, &r, sizeof(r), &a, 10);
	check(a.type <= 2); /* done, not wanted, or not now */
	return !a.type;
}

static void memory_turn(uint32_t *dice)
{
	unsigned block = next(dice) % blocks, wanted = virtio_config(&memory, 48) / BLOCK;
	uint64_t at = region + (uint64_t)block * BLOCK;

	if (block_content[block] == GONE && plugged < wanted && ask(PLUG, block)) {
		look(at, BLOCK, 0); /* memory that was unplugged reads as zero here */
		block_content[block] = next(dice) % KINDS;
		fill(at, BLOCK, block_content[block]);
		plugged++;
		done[2]++;
	} else if (block_content[block] != GONE && (plugged > wanted || next(dice) % 4 == 0)) {
		look(at, BLOCK, block_content[block]);
		if (!ask(UNPLUG, block))
			return;
		block_content[block] = GONE;
		plugged--;
		done[3]++;
	}
}

/* ---- all of it ---- */

static void write_own(unsigned cpu)
{
	uint8_t kind[OTHER_PAGES] = { 0 };
	uint32_t dice = 77 + cpu;

	while (!over) {
		unsigned page = next(&dice) % OTHER_PAGES;

		rewrite(OTHERS + ((cpu - 1) * OTHER_PAGES + page) * PAGE, &kind[page], &dice);
		for (volatile unsigned i = 0; i < 2000; i++)
			;
	}
}

static void open_devices(void)
{
	if (!virtio_open(VIRTIO_BALLOON, &balloon))
		return;
	virtio_open_queue(&balloon, 0, &inflate);
	virtio_open_queue(&balloon, 1, &deflate);
	virtio_begin(&balloon);
	if (!virtio_open(VIRTIO_MEM, &memory))
		return;
	virtio_open_queue(&memory, 0, &plugging);
	virtio_begin(&memory);
	region = virtio_config(&memory, 16) | (uint64_t)virtio_config(&memory, 20) << 32;
	blocks = virtio_config(&memory, 24) / BLOCK;
	check(region + blocks * (uint64_t)BLOCK <= 5 * 1024ull * MIB && blocks && blocks <= BLOCKS_MOST);
	map_region();
}

void guest_main(void)
{
	uint32_t cpus = option_number("cpus=", 1), dice = 4711;

	open_devices();
	if (failures)
		return;
	memset(block_content, GONE, sizeof(block_content));
	for (uint32_t page = 0; page < PAGES; page++)
		rewrite(FIRST + page * PAGE, &content[page], &dice);
	if (cpus > 1)
		check(start_cpus(cpus, write_own));
	print("churning\n");
	while (!(in8(UART_STATUS) & 1) && !failures) {
		uint32_t page = next(&dice) % PAGES;

		balloon_turn(&dice);
		memory_turn(&dice);
		for (unsigned i = 0; i < BATCH; i++, page = (page + 1) % PAGES)
			if (content[page] != GONE)
				rewrite(FIRST + page * PAGE, &content[page], &dice);
	}
	over = true;
	for (uint32_t page = 0; page < PAGES; page++)
		if (content[page] != GONE)
			look(FIRST + page * PAGE, PAGE, content[page]);
	for (unsigned i = 0; i < blocks; i++)
		if (block_content[i] != GONE)
			look(region + (uint64_t)i * BLOCK, BLOCK, block_content[i]);
	print("churned: %u given, %u taken back, %u plugged, %u unplugged\n", done[0], done[1], done[2], done[3]);
}
