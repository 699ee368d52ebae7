/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What kernel files need from below when they are built as Linux programs: log, panic,
 * CPU numbers, lock ranks. A panic is an abort, so a test that reaches one fails.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/spinlock.h"

__thread unsigned test_cpu;
unsigned test_cpu_count = 1;
__thread int64_t test_tsc_ahead;
unsigned test_cpus_of_a_node = 1024;
uint64_t test_cpus_closed; /* bit n: CPU n was left out */
static __thread unsigned ranks[16], rank_depth;
bool lock_rank_switch = true;
void (*test_lock_taken)(unsigned rank, const char *name); /* NULL: nobody asks */

void log_line(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

void panic(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("panic: ", stderr);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

unsigned cpu_index(void)
{
	return test_cpu;
}

unsigned cpu_count(void)
{
	return test_cpu_count;
}

int64_t host_tsc_ahead(void)
{
	return test_tsc_ahead;
}

uint32_t host_node(unsigned cpu)
{
	return cpu / test_cpus_of_a_node;
}

bool cpu_is_open(unsigned index)
{
	return index < test_cpu_count && !(test_cpus_closed >> (index & 63) & 1);
}

void lock_rank_enter(unsigned rank, const char *name)
{
	if (rank_depth && ranks[rank_depth - 1] >= rank)
		panic("lock %s of rank %u taken under rank %u", name, rank, ranks[rank_depth - 1]);
	ranks[rank_depth++] = rank;
	if (test_lock_taken)
		test_lock_taken(rank, name);
}

unsigned test_locks_held(void)
{
	return rank_depth;
}

void lock_rank_leave(unsigned rank)
{
	if (!rank_depth)
		panic("lock of rank %u released, none held", rank);
	rank_depth--;
	(void)rank;
}
