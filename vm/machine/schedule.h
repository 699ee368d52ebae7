/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheduler: each host CPU runs vcpus in turns by weight, of those that are allowed there.
 */
#pragma once

#include "vm/machine/queues.h"

/* Hands a vcpu to a host CPU where it may run, any CPU; it is taken back by the vcpu leaving (vcpus_inside goes down). */
void schedule_add(struct vcpu *vcpu);
/* Kicks a host CPU so that its loop looks around; any CPU. */
void schedule_wake(unsigned cpu);
/*
 * The life of a host CPU; never returns. housekeeping (boot CPU only, else NULL) is called between slices, but not again at once, and before
 * sleeping; it returns true when it did something and wants to be called again soon. poll_ns: longest sleep.
 */
_Noreturn void schedule_loop(bool (*housekeeping)(void), uint64_t poll_ns);

struct schedule_info {
	struct queue_info queue;
	uint64_t idle_ticks, guest_ticks, loops, started;
	uint64_t longest[STRETCHES]; /* ticks of the time stamp counter */
};
void schedule_describe(unsigned cpu, struct schedule_info *info);
