/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host CPUs' queues: see queues.c. A CPU picks a vcpu from its own, runs it and puts it back; anybody wakes one. Any lock but
 * one of RANK_LEAF may be held. `now` is the time stamp counter.
 */
#pragma once

#include "vm/vcpu/vcpu.h"

/* What a slice is at weight 100. */
#define SLICE_NS UINT64_C(10000000)
#define SLICE_WEIGHT 100u

struct queue_info {
	unsigned vcpus, waiting;
	uint64_t moves; /* vcpus that came from other CPUs */
};

/* The CPU of `set` with the least weight on it, of those that are open; CPU_SET_SIZE: none is. */
unsigned queues_lightest(const struct cpu_set *set);
/* A vcpu that is nowhere waits from now on, on an idle CPU of its set or the one with the least weight. */
void queues_add(struct vcpu *vcpu, uint64_t now);
/*
 * This CPU runs the vcpu returned from now on, one of another's if its own can wait for it; NULL: there is none. *due: when the
 * first of those asleep here is to be looked at.
 */
struct vcpu *queues_pick(uint64_t now, uint64_t *due);
/* It ran on this CPU, and has spent so many ticks. After VCPU_LEFT it is nowhere and may go at once. */
void queues_put(struct vcpu *vcpu, enum vcpu_outcome outcome, uint64_t spent, uint64_t now);
/* One that sleeps is to look at its requests; one that leaves comes before all others. Any other: nothing. Any CPU. */
void queues_wake(struct vcpu *vcpu, bool leaves, uint64_t now);
/* There's nothing here: true if that was said before, and nobody has given anything since. Others may give from now on. */
bool queues_rest(void);
/* May this CPU sleep, until *due? */
bool queues_nothing(uint64_t *due);
void queues_describe(unsigned cpu, struct queue_info *info);
