/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which cache lines does a piece of code write? What is watched is write-protected while it runs; each store faults, is noted,
 * and is let through by a single step. Exact, locked instructions included; slow, so for hundreds of stores.
 * x86-64 Linux, one thread. The recorder itself lies in memory of its own, since globals may be watched.
 */
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#define STORES_LINES 4096u
#define STORES_PAGE 4096u
#define STORES_TRAP_FLAG 0x100

struct stores {
	struct {
		uintptr_t from, to; /* whole pages */
	} region[16];
	unsigned regions;
	uintptr_t open[4]; /* pages that the current instruction may write */
	unsigned opened;
	uintptr_t line[STORES_LINES]; /* addresses of 64 bytes, each once */
	unsigned last[STORES_LINES];  /* when it was written last: the `stamp` of that time, which the test moves on */
	uintptr_t by[STORES_LINES];   /* the last instruction */
	bool mark[STORES_LINES];      /* the test's, false at first */
	unsigned held[STORES_LINES];  /* locks at the last time */
	unsigned lines, stamp;
};
static struct stores *stores;
unsigned test_locks_held(void);

static void stores_open(uintptr_t page, int rights)
{
	if (mprotect((void *)page, STORES_PAGE, rights))
		abort();
}

static void stores_on_write(int number, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr;
	unsigned i;

	for (i = 0; i < stores->regions && (at < stores->region[i].from || at >= stores->region[i].to); i++)
		;
	if (i == stores->regions || stores->opened == 4 || stores->lines == STORES_LINES)
		abort();
	for (i = 0; i < stores->lines && stores->line[i] != at >> 6; i++)
		;
	stores->line[i] = at >> 6;
	stores->last[i] = stores->stamp;
	stores->by[i] = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	stores->mark[i] &= i != stores->lines;
	stores->held[i] = test_locks_held();
	stores->lines += i == stores->lines;
	stores_open(stores->open[stores->opened++] = at & ~(uintptr_t)(STORES_PAGE - 1), PROT_READ | PROT_WRITE);
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] |= STORES_TRAP_FLAG;
	(void)number;
}

static void stores_on_step(int number, siginfo_t *info, void *context)
{
	while (stores->opened)
		stores_open(stores->open[--stores->opened], PROT_READ);
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)STORES_TRAP_FLAG;
	(void)number;
	(void)info;
}

/* Once; then each piece of memory, by whole pages. */
static void stores_start(void)
{
	stores = mmap(NULL, sizeof(*stores), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stores == MAP_FAILED)
		abort();
}

static void stores_watch(const void *at, size_t size)
{
	uintptr_t from = (uintptr_t)at & ~(uintptr_t)(STORES_PAGE - 1);

	stores->region[stores->regions].from = from;
	stores->region[stores->regions++].to = ((uintptr_t)at + size + STORES_PAGE - 1) & ~(uintptr_t)(STORES_PAGE - 1);
}

static void stores_protect(int rights)
{
	for (unsigned i = 0; i < stores->regions; i++)
		if (mprotect((void *)stores->region[i].from, stores->region[i].to - stores->region[i].from, rights))
			abort();
}

/* The lines that what(context) writes are in stores->line afterwards. */
static void stores_record(void (*what)(void *context), void *context)
{
	struct sigaction write = { .sa_sigaction = stores_on_write, .sa_flags = SA_SIGINFO }, step = write, before[2];

	step.sa_sigaction = stores_on_step;
	stores->lines = 0;
	sigaction(SIGSEGV, &write, &before[0]);
	sigaction(SIGTRAP, &step, &before[1]);
	stores_protect(PROT_READ);
	what(context);
	stores_protect(PROT_READ | PROT_WRITE);
	sigaction(SIGSEGV, &before[0], NULL);
	sigaction(SIGTRAP, &before[1], NULL);
}
