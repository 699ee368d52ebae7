/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What two levels cost, in ticks: rows in the benchmark's form (bench.c). Only when asked for by name. Each row but the loop's has the same L1 and L2
 * whatever runs below, so hosts can be compared by it.
 */
#include "hyper.h"

#define SAMPLES 255u
#define TOUCHED 512u
#define THERE (32 * MIB)
#define NOT_THERE (36 * MIB)

static struct l2 *l2;
static uint64_t samples[SAMPLES];

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
	print("row %s mode %u sum 0x%llx count %u\n", name, (uint32_t)mode, (unsigned long long)sum, count);
}

/* L2's exit to L1 and back: one field written by L1 on the way, and VMX' dozen read. */
static void round_trips(const char *name, const void *piece, uint64_t rdi)
{
	l2_do(l2, piece, rdi, 0);
	for (unsigned i = 0; i < SAMPLES; i++) {
		uint64_t before = rdtsc();

		hyper.vendor->set(l2, L2_RIP, address_of(piece));
		hyper.vendor->run(l2);
		samples[i] = rdtsc() - before;
	}
	row(name, SAMPLES);
}

static void map_window(uint64_t to)
{
	for (unsigned i = 0; i < TOUCHED; i++)
		*slat_entry(l2->root, TARGET + i * PAGE, 0) = slat_leaf(to + i * PAGE, 0, ACCESS_ALL);
	hyper.vendor->flush(l2, false);
	l2_do(l2, l2_halt, 0, 0);
}

/* All pages of the window read in one run. */
static void touches(const char *name)
{
	uint64_t before = rdtsc();

	l2_do(l2, l2_touch, WINDOW, TOUCHED);
	samples[0] = (rdtsc() - before) / TOUCHED;
	check(l2->exit.kind == GOT_HLT);
	row(name, 1);
}

void case_bench(void)
{
	if (!option("bench"))
		return;
	l2 = l2_new(true);
	round_trips("l2_cpuid", l2_cpuid, 0);
	round_trips("l2_hlt", l2_halt, 0);
	for (unsigned i = 0; i < TOUCHED; i++)
		*(volatile uint64_t *)(uintptr_t)(THERE + i * PAGE) = i;
	map_window(THERE);
	touches("l2_touch_there");
	touches("l2_touch_again");
	for (unsigned i = 0; i < 16; i++) {
		uint64_t before = rdtsc();

		hyper.vendor->flush(l2, false);
		l2_do(l2, l2_read, WINDOW, 0);
		samples[i] = rdtsc() - before;
	}
	row("l1_flush_512", 16);
	map_window(NOT_THERE);
	touches("l2_touch_nowhere_yet");
}
