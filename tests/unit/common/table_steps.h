/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sees every single store to a live table. The tables that can be reached from the root are made read-only; a store to
 * one faults, is let through with the processor's single-step flag set, and the trap behind it calls look() and
 * protects what can be reached now. So each prefix of the stores of an operation is looked at, whatever way they
 * are made: atomic, plain, by memcpy. Stores to what isn't linked (yet) change no translation.
 *
 * look() runs in a signal handler: it may read the memory, must tell what it finds by a variable, and calls
 * steps_live() for each table on its way.
 */
#pragma once

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE before the first include"
#endif
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#define STEP_FLAG 0x100 /* RFLAGS.TF */

static struct {
	uint8_t *memory;
	void (*look)(void);
	bool active;
	unsigned long count;
	unsigned live_count;
	uint64_t live[64];
	struct sigaction old_fault, old_trap;
} steps;

static void steps_protect(int rights)
{
	for (unsigned i = 0; i < steps.live_count; i++)
		if (mprotect(steps.memory + steps.live[i], 4096, rights))
			abort();
}

/* The table at this offset of the memory is in use. */
static void steps_live(uint64_t table)
{
	if (!steps.active)
		return;
	for (unsigned i = 0; i < steps.live_count; i++)
		if (steps.live[i] == table)
			return;
	if (steps.live_count == sizeof(steps.live) / sizeof(steps.live[0]))
		abort();
	steps.live[steps.live_count++] = table;
}

static void step_fault(int signal, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	uint64_t offset = (uint64_t)((uint8_t *)info->si_addr - steps.memory) & ~UINT64_C(4095);
	bool known = false;

	(void)signal;
	for (unsigned i = 0; i < steps.live_count; i++)
		known |= steps.live[i] == offset;
	if (!known)
		abort();
	steps_protect(PROT_READ | PROT_WRITE);
	u->uc_mcontext.gregs[REG_EFL] |= STEP_FLAG;
}

static void step_trap(int signal, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)signal;
	(void)info;
	steps.count++;
	steps.live_count = 0;
	steps.look();
	steps_protect(PROT_READ);
	u->uc_mcontext.gregs[REG_EFL] &= ~STEP_FLAG;
}

/* memory: physical address 0. */
static void steps_begin(void *memory, void (*look)(void))
{
	struct sigaction fault = { .sa_sigaction = step_fault, .sa_flags = SA_SIGINFO };
	struct sigaction trap = { .sa_sigaction = step_trap, .sa_flags = SA_SIGINFO };

	steps.memory = memory;
	steps.look = look;
	steps.active = true;
	steps.count = 0;
	steps.live_count = 0;
	sigaction(SIGSEGV, &fault, &steps.old_fault);
	sigaction(SIGTRAP, &trap, &steps.old_trap);
	look();
	steps_protect(PROT_READ);
}

/* Returns how many stores were seen. */
static unsigned long steps_end(void)
{
	steps_protect(PROT_READ | PROT_WRITE);
	steps.active = false;
	sigaction(SIGSEGV, &steps.old_fault, NULL);
	sigaction(SIGTRAP, &steps.old_trap, NULL);
	return steps.count;
}
