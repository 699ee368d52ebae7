/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What two levels cost, in ticks: rows in the benchmark's form (bench.c). Only when asked for by name. L1 and L2 are the same
 * whatever runs below, so hosts can be compared by the rows; L1's own part in them is theirs, too.
 */
#include "hyper.h"

#define SAMPLES 255u
#define TOUCHED 512u
#define FLUSHED 1000u
#define FLUSHES 15u
#define THERE (32 * MIB)     /* L1 has written these pages */
#define NOT_THERE (40 * MIB) /* nobody has */
#define SHADOWS 4u
#define HOST_PORT 0xf5 /* bench.c */
#define COM1 0x3f8
#define ROWS 8u

static struct l2 *l2;
static uint64_t samples[SAMPLES];
/* Printed when all is measured: a host may be busy with what was printed while the next row is. */
static struct {
	const char *name;
	uint64_t mode, sum;
	unsigned count;
} rows[ROWS];
static unsigned row_count;

static void print_rows(void)
{
	for (unsigned i = 0; i < row_count; i++)
		print("row %s mode %u sum 0x%llx count %u\n", rows[i].name, (uint32_t)rows[i].mode,
		      (unsigned long long)rows[i].sum, rows[i].count);
}

/* Mode, sum and count; the samples are few: a quadratic count does. */
static void row(const char *name, unsigned count)
{
	uint64_t mode = 0, sum = 0;
	unsigned most = 0;

	for (unsigned i = 0; i < count; i++) {
		unsigned same = 0;

		for (unsigned j = 0; j < count; j++)
			same += samples[j] == samples[i];
		if (same > most) {
			most = same;
			mode = samples[i];
		}
		sum += samples[i];
	}
	check(row_count < ROWS);
	rows[row_count].name = name;
	rows[row_count].mode = mode;
	rows[row_count].sum = sum;
	rows[row_count++].count = count;
}

/* L2's exit to L1 and back: one field written by L1 on the way, and VMX' half dozen read. */
static void round_trips(const char *name, const void *piece)
{
	l2_do(l2, piece, 0, 0);
	for (unsigned i = 0; i < SAMPLES; i++) {
		uint64_t before = rdtsc();

		hyper.vendor->set(l2, L2_RIP, address_of(piece));
		hyper.vendor->run(l2);
		samples[i] = rdtsc() - before;
	}
	row(name, SAMPLES);
}

static void map_page(unsigned i, uint64_t to)
{
	*slat_entry(l2->root, TARGET + i * PAGE, 0) = to ? slat_leaf(to, 0, ACCESS_ALL) : 0;
}

/* Nothing of the window is shadowed afterwards. to: of the first page; 0: none is mapped. */
static void map_window(uint64_t to)
{
	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < TOUCHED; i++)
			map_page(i, to && pass ? to + i * PAGE : 0);
		hyper.vendor->flush(l2, false);
		l2_do(l2, l2_halt, 0, 0);
	}
}

/* All pages of the window read in one run; those that L1 hasn't mapped it maps when L2 comes by. */
static void touches(const char *name, uint64_t to)
{
	uint64_t before = rdtsc();

	l2_do(l2, l2_touch, WINDOW, TOUCHED);
	while (l2->exit.kind == GOT_VIOLATION) {
		uint64_t offset = (l2->exit.info2 - TARGET) & ~(uint64_t)(PAGE - 1);

		*slat_entry(l2->root, TARGET + offset, 0) = slat_leaf(to + offset, 0, ACCESS_ALL);
		l2_resume(l2);
	}
	samples[0] = (rdtsc() - before) / TOUCHED;
	check(l2->exit.kind == GOT_HLT);
	row(name, 1);
}

static void touch_rows(void)
{
	map_window(THERE);
	touches("l2_touch_there", THERE);
	touches("l2_touch_again", THERE);
	map_window(0);
	touches("l2_touch_absent", THERE);
	map_window(NOT_THERE);
	touches("l2_touch_nowhere_yet", NOT_THERE);
}

static uint64_t *flushed_entry(unsigned i)
{
	return slat_entry(l2->root, THERE + i * PAGE, 0);
}

/* A flush of L1's with so many pages shadowed, and L2's first access after it. changes: L1 gives one page, which isn't that, back and forth. */
static void flushes(const char *name, bool changes)
{
	l2_do(l2, l2_touch, THERE, FLUSHED);
	for (unsigned i = 0; i < FLUSHES; i++) {
		uint64_t before = rdtsc();

		if (changes)
			*flushed_entry(FLUSHED / 2) = slat_leaf(THERE + (FLUSHED / 2 - i % 2) * PAGE, 0, ACCESS_ALL);
		hyper.vendor->flush(l2, false);
		l2_do(l2, l2_read, THERE, 0);
		samples[i] = rdtsc() - before;
	}
	check(l2->exit.kind == GOT_HLT);
	row(name, FLUSHES);
}

static void flush_rows(void)
{
	for (uint64_t at = THERE; at < THERE + FLUSHED * PAGE; at += BLOCK)
		*slat_entry(l2->root, at, 1) = 0;
	for (unsigned i = 0; i < FLUSHED; i++)
		*flushed_entry(i) = slat_leaf(THERE + i * PAGE, 0, ACCESS_ALL);
	hyper.vendor->flush(l2, false);
	flushes("l1_flush_1000", false);
	flushes("l1_change_1000", true);
}

/* The host takes the translation of NOT_THERE's first page away, which L2 sees at so many addresses, says what it took, and a byte. */
static void zap(unsigned shadows)
{
	*(volatile uint64_t *)(uintptr_t)NOT_THERE = shadows;
	map_window(0);
	for (unsigned i = 0; i < shadows; i++)
		map_page(i, NOT_THERE);
	l2_do(l2, l2_touch, WINDOW, shadows);
	check(l2->exit.kind == GOT_HLT);
	print("turn zap_%u\n", shadows);
	out8(HOST_PORT, (uint8_t)('0' + shadows));
	while (!(in8(COM1 + 5) & 1))
		;
	(void)in8(COM1);
	l2_do(l2, l2_touch, WINDOW, shadows);
	check(l2->exit.kind == GOT_HLT);
}

void case_bench(void)
{
	if (!option("bench"))
		return;
	l2 = l2_new(true);
	for (unsigned i = 0; i < FLUSHED; i++)
		*(volatile uint64_t *)(uintptr_t)(THERE + i * PAGE) = i;
	round_trips("l2_cpuid", l2_cpuid);
	round_trips("l2_hlt", l2_halt);
	touch_rows();
	flush_rows();
	print_rows();
	if (!option("zap"))
		return;
	zap(1);
	zap(SHADOWS);
}
