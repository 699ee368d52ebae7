/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmark of over-commit: one of several machines that hold much alike. From 16 MiB on it fills 32 MiB: a half with pages that each of
 * them has, no two of one machine the same; a quarter with zeros; a quarter with pages by name=N, which nobody else has. Then the host
 * looks for equal pages. Guest 1 writes to what is shared since, and gives pages into its balloon: under Quire virtio's, under
 * tools/bench/kvm.c ("kvm") a port that takes the same array of page numbers. At the end everything is found as it was.
 */
#include "rows.h"
#include "virtio.h"

#define AREA (16 * MIB)
#define PAGES (32 * MIB / PAGE)
#define ZEROS (PAGES / 2) /* the first page of each part */
#define OWN (ZEROS + PAGES / 4)
#define ARRAY 256u /* page numbers at once, as Linux' driver has them */
#define ARRAYS 4u
#define SCATTER 37u /* odd: in an order that has no runs, as a free list has them */
#define BALLOON_PORT 0xf6

static uint32_t name, touched, page_number[ARRAY];
static struct virtio_queue queue;

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

static void open_balloon(void)
{
	struct virtio_device balloon;

	if (!virtio_open(VIRTIO_BALLOON, &balloon))
		return;
	virtio_open_queue(&balloon, 0, &queue);
	virtio_begin(&balloon);
}

/* Until the host has done it. */
static void give_array(void)
{
	if (queue.notify)
		virtio_do(&queue, 0, page_number, sizeof(page_number), NULL, 0);
	else
		out32(BALLOON_PORT, (uint32_t)page_number);
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
