/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No older value after a newer one, over pages that get their frames just then. A writer stores a round's number in x, a word
 * of a page that read as zero until now, then in y, a word of a page of its own; a reader that has read x before reads y, then
 * x: having seen the new y it must see the new x. Each processor passes through play(), as a writer or a reader, and they
 * meet by words in memory alone. With one processor both parts are played in turn, which shows that pages read as zero,
 * take what is written, and keep it, in every order of first read and first write.
 *
 * rounds=N: pages to go through; block: 2 MiB from page to page, so that whole blocks change from zeros to memory.
 */
#include "guest.h"

#define FIRST (16 * MIB)

struct litmus {
	volatile uint32_t ready, done; /* the reader's round: has x in its TLB; has seen y */
	volatile uint32_t stale;       /* rounds in which the older value came after the newer one */
	uint32_t rounds, stride, turn;
};

/* Two pages apart from each other and from x: y must not come with x's translation. */
static volatile uint32_t y[2 * PAGE / 4] __attribute__((aligned(4096)));
static struct litmus litmus;

static volatile uint32_t *x_of(const struct litmus *l, uint32_t round)
{
	return (volatile uint32_t *)(FIRST + (round - 1) * l->stride + (round * 4 & (PAGE - 4)));
}

static void write_round(struct litmus *l, uint32_t round)
{
	*x_of(l, round) = round;
	y[0] = round; /* stores become visible in program order: Intel SDM vol. 3 section 9.2.2, AMD APM vol. 2 section 7.2 */
}

/* Reads x so that its translation is at hand. Every other round is left alone: the first access is the write then. */
static void begin_reading(struct litmus *l, uint32_t round)
{
	if (round % 4)
		check_equal(*x_of(l, round), 0);
	l->ready = round;
}

/* Returns whether the round's y has been seen. */
static bool read_round(struct litmus *l, uint32_t round)
{
	uint32_t seen_y = y[0], seen_x = *x_of(l, round);

	if (seen_y != round)
		return false;
	l->stale += seen_x != round;
	l->done = round;
	return true;
}

/* One processor's part, from the first round to the last, for who has the other part on another processor. */
static void __attribute__((unused)) play(struct litmus *l, bool writer)
{
	for (uint32_t round = 1; round <= l->rounds; round++) {
		if (writer) {
			while (l->ready < round)
				__asm__ volatile("pause");
			write_round(l, round);
			while (l->done < round)
				__asm__ volatile("pause");
		} else {
			begin_reading(l, round);
			while (!read_round(l, round))
				__asm__ volatile("pause");
		}
	}
}

static void play_both(struct litmus *l)
{
	for (uint32_t round = 1; round <= l->rounds; round++) {
		begin_reading(l, round);
		check(!read_round(l, round));
		write_round(l, round);
		check(read_round(l, round));
	}
}

void guest_main(void)
{
	uint32_t stride = option("block") ? BLOCK : PAGE, room = (memory_end - FIRST) / stride;

	litmus.stride = stride;
	litmus.rounds = option_number("rounds=", room);
	litmus.rounds = litmus.rounds > room ? room : litmus.rounds;
	play_both(&litmus);
	for (uint32_t round = 1; round <= litmus.rounds; round++)
		check_equal(*x_of(&litmus, round), round);
	check_equal(litmus.stale, 0);
	print("litmus: %u rounds, %u stale\n", litmus.rounds, litmus.stale);
}
