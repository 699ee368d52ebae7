/* SPDX-License-Identifier: Apache-2.0 */
/* The clock of Linux' interface for guests of KVM, as a guest reads it: Linux Documentation/virt/kvm/x86/msr.rst. */
#pragma once

#include "guest.h"

#define MSR_PV_CLOCK 0x4b564d01u /* its address, and bit 0 */

struct pv_clock {
	uint32_t version, pad;
	uint64_t tsc, time;
	uint32_t scale;
	int8_t shift;
	uint8_t flags, reserved[2];
};

/* Nanoseconds. */
static inline uint64_t pv_clock_now(const volatile struct pv_clock *c)
{
	uint32_t version;
	uint64_t time, delta;

	do {
		version = c->version;
		__asm__ volatile("lfence" : : : "memory");
		delta = rdtsc() - c->tsc;
		delta = c->shift < 0 ? delta >> -c->shift : delta << c->shift;
		time = c->time + (delta >> 32) * c->scale + ((delta & 0xffffffff) * c->scale >> 32);
	} while ((version & 1) || version != c->version);
	return time;
}
