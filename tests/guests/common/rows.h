/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the benchmark's guests measure, in ticks of the time stamp counter. Each row runs the loop
 *     op; rdtsc; stosl; dec; jnz
 * and prints the samples' mode and sum; what the loop costs without an op is a row too ("loop"), and whoever reads the lines
 * subtracts it. Rows are printed at the end, so that no host is busy with the lines of one while it runs the next.
 */
#pragma once

#include "guest.h"

#define SAMPLES 1024u
#define ROWS 16u
#define HOST_PORT 0xf5 /* to the benchmark's KVM side; nobody's under Quire */
#define COM1 0x3f8

static uint32_t samples[SAMPLES + 1];

static struct row {
	const char *name;
	uint32_t mode, count, min, max;
	uint64_t sum;
} rows[ROWS];
static unsigned row_count;

/* count ops; clobbers are those of CPUID, the widest op. at and step drive the memory ops through %ebp. */
#define LOOP(op, count, at, step)                                                                                      \
	do {                                                                                                           \
		uint32_t *to_ = samples;                                                                               \
		uint32_t n_ = (count) + 1, at_ = (at);                                                                 \
		__asm__ volatile("push %%ebp; mov %%ebx, %%ebp\n"                                                      \
				 "1:\n" op "\n rdtsc\n stosl\n dec %%esi\n jnz 1b\n"                                   \
				 "pop %%ebp"                                                                           \
				 : "+D"(to_), "+S"(n_), "+b"(at_)                                                      \
				 : [by] "i"(step)                                                                      \
				 : "eax", "ecx", "edx", "memory", "cc");                                               \
	} while (0)

static inline void sort(uint32_t *list, unsigned count)
{
	for (unsigned gap = count / 2; gap; gap /= 2)
		for (unsigned i = gap; i < count; i++)
			for (unsigned j = i; j >= gap && list[j - gap] > list[j]; j -= gap) {
				uint32_t t = list[j];

				list[j] = list[j - gap];
				list[j - gap] = t;
			}
}

/* The first op's time isn't known, so count + 1 ops give count samples. */
static inline void report(const char *row, unsigned count)
{
	uint32_t mode = 0;
	unsigned most = 0, run = 0;
	uint64_t sum = 0;

	for (unsigned i = 0; i < count; i++) {
		samples[i] = samples[i + 1] - samples[i];
		sum += samples[i];
	}
	sort(samples, count);
	for (unsigned i = 0; i < count; i++) {
		run = i && samples[i] == samples[i - 1] ? run + 1 : 1;
		if (run > most) {
			most = run;
			mode = samples[i];
		}
	}
	if (check(row_count < ROWS))
		rows[row_count++] = (struct row){ row, mode, count, samples[0], samples[count - 1], sum };
}

static inline void print_rows(void)
{
	for (const struct row *r = rows; r < rows + row_count; r++)
		print("row %s mode %u sum 0x%llx count %u min %u max %u\n", r->name, r->mode, r->sum, r->count, r->min,
		      r->max);
}

/* The host does something now, and answers with a byte on the console. */
static inline void host_turn(const char *what)
{
	print("turn %s\n", what);
	out8(HOST_PORT, (uint8_t)*what);
	while (!(in8(COM1 + 5) & 1))
		;
	(void)in8(COM1);
}

#define ROW(name, op, count, at, step)                                                                                 \
	do {                                                                                                           \
		LOOP(op, count, at, step);                                                                             \
		report(name, count);                                                                                   \
	} while (0)

#define STEP "\n add %[by], %%ebp"
#define WRITE "movl $0x5a, (%%ebp)" STEP
#define READ "mov (%%ebp), %%eax" STEP
#define COUNT (SAMPLES - 1)
