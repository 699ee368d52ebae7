/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No older value after a newer one, over pages that get their frames just then. A writer stores a number in x, a word of a page
 * that read as zero until now, then in y, a word of a page of its own; a reader that has read x before reads y, then
 * x: having seen the new y it must see the new x. With one processor both parts are played in turn, which shows that pages
 * read as zero, take what is written, and keep it, in every order of first read and first write.
 *
 * rounds=N: pages to go through; block: 2 MiB from page to page, so that whole blocks change from zeros to memory.
 * cpus=N: the first of so many processors writes, the others read, and they meet before and after each BATCH of pages only:
 * there may be fewer of the host's. told: begins at a key, and goes through the pages again and again, with greater numbers each time,
 * until the next key; meanwhile the host may split, join, protect or move what is behind them.
 */
#include "smp.h"

#define FIRST (16 * MIB)
#define BATCH 256u
#define REST 8000000u /* ticks of the time stamp counter */
#define COM1 0x3f8

/* How far a reader is, each in a cache line of its own. */
struct reader {
	volatile uint32_t ready, done; /* numbers: has x in its TLB; has seen y and what was before it */
	volatile uint32_t stale;       /* how often the older value came after the newer one */
} __attribute__((aligned(64)));

/* Two pages apart from each other and from x: y must not come with x's translation. */
static volatile uint32_t y[2 * PAGE / 4] __attribute__((aligned(4096)));
static struct reader readers[CPUS_MAX];
static uint32_t rounds, stride, cpus;
static volatile uint32_t last; /* number */

static volatile uint32_t *x_of(uint32_t number)
{
	uint32_t round = (number - 1) % rounds + 1;

	return (volatile uint32_t *)(FIRST + (round - 1) * stride + (round * 4 & (PAGE - 4)));
}

static void write_one(uint32_t number)
{
	*x_of(number) = number;
	y[0] = number; /* stores become visible in program order: Intel SDM vol. 3 section 9.2.2, AMD APM vol. 2 section 7.2 */
}

/* Reads x so that its translation is at hand. Every other page is left alone: the first access is the write then. */
static void begin_reading(uint32_t number)
{
	uint32_t seen;

	if (number % 4 == 0)
		return;
	seen = *x_of(number);
	if (seen != (number > rounds ? number - rounds : 0))
		check_equal(seen, number > rounds ? number - rounds : 0);
}

/* Looks at what y says was written since `seen`; returns up to where. */
static uint32_t read_on(struct reader *r, uint32_t seen)
{
	uint32_t now = y[0];

	for (; seen < now; seen++)
		r->stale += *x_of(seen + 1) != seen + 1;
	return seen;
}

static void play_both(void)
{
	for (uint32_t number = 1; number <= last; number++) {
		begin_reading(number);
		check_equal(read_on(&readers[0], number - 1), number - 1);
		write_one(number);
		check_equal(read_on(&readers[0], number - 1), number);
	}
}

/* ---- several processors ---- */

/* No page is twice in a batch. */
static uint32_t end_of_batch(uint32_t first)
{
	uint32_t end_of_pass = first + rounds - 1 - (first - 1) % rounds;

	return end_of_pass - first < BATCH ? end_of_pass : first + BATCH - 1;
}

static void wait_for(volatile uint32_t *word, uint32_t number)
{
	while (*word < number)
		relax();
}

/* After a pass: nobody writes for long enough that a block can be copied. A key makes this pass the last one. */
static void rest(uint32_t end)
{
	uint64_t begin = rdtsc();

	if (end == last)
		return;
	if (in8(COM1 + 5) & 1)
		last = end;
	while (rdtsc() - begin < REST)
		relax();
}

static void play_writer(void)
{
	for (uint32_t first = 1, end; first <= last; first = end + 1) {
		end = end_of_batch(first);
		for (unsigned i = 1; i < cpus; i++)
			wait_for(&readers[i].ready, end);
		for (uint32_t number = first; number <= end; number++)
			write_one(number);
		for (unsigned i = 1; i < cpus; i++)
			wait_for(&readers[i].done, end);
		if (end == rounds)
			print("first pass\n");
		if (end % rounds == 0)
			rest(end);
	}
}

static void play_reader(unsigned cpu)
{
	struct reader *r = &readers[cpu];

	for (uint32_t first = 1, end; first <= last; first = end + 1) {
		end = end_of_batch(first);
		for (uint32_t number = first; number <= end; number++)
			begin_reading(number);
		r->ready = end;
		for (uint32_t seen = first - 1; seen < end; relax())
			seen = read_on(r, seen);
		r->done = end;
	}
}

static void wait_key(void)
{
	print("ready\n");
	while (!(in8(COM1 + 5) & 1))
		relax();
	(void)in8(COM1);
	last = ~0u - BATCH;
}

void guest_main(void)
{
	uint32_t room, stale = 0;

	stride = option("block") ? BLOCK : PAGE;
	room = (memory_end - FIRST) / stride;
	rounds = option_number("rounds=", room);
	last = rounds = rounds > room ? room : rounds;
	cpus = option_number("cpus=", 1);
	if (option("told"))
		wait_key();
	if (cpus == 1) {
		play_both();
	} else {
		check(start_cpus(cpus, play_reader));
		play_writer();
	}
	for (uint32_t round = 1; round <= rounds; round++)
		check_equal(*x_of(round), last - rounds + round);
	for (unsigned i = 0; i < cpus; i++)
		stale += readers[i].stale;
	check_equal(stale, 0);
	print("litmus: %u rounds, %u stale\n", rounds, stale);
}
