/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheduler: each host CPU runs the vcpus that are pinned to it, in turns by weight.
 */
#pragma once

#include "vm/vcpu/vcpu.h"

/* Hands a vcpu to its host CPU, any CPU; it is taken back by the vcpu leaving (vcpus_inside goes down). */
void schedule_add(struct vcpu *vcpu);
/* The host CPU with the least weight on it, of those that are open. */
unsigned schedule_pick_cpu(void);
/* Kicks a host CPU so that its loop looks around; any CPU. */
void schedule_wake(unsigned cpu);
/*
 * The life of a host CPU; never returns. housekeeping (boot CPU only, else NULL) is called between slices and before
 * sleeping; it returns true when it did something and wants to be called again soon. poll_ns: longest sleep.
 */
_Noreturn void schedule_loop(bool (*housekeeping)(void), uint64_t poll_ns);

struct schedule_info {
	unsigned vcpus;
	uint64_t idle_ticks, guest_ticks, loops, started;
	uint64_t longest[STRETCHES]; /* ticks of the time stamp counter */
};
void schedule_describe(unsigned cpu, struct schedule_info *info);
