/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of one host CPU, and virtual time: see queue.c; and what queues.c and offers.c, which know all queues, ask of each
 * other. Nobody else includes it. `now` is the time stamp counter.
 */
#pragma once

#include "arch/x86_64/host.h"
#include "vm/machine/queues.h"

/* Units of virtual time: of SLICE_NS at SLICE_WEIGHT. */
#define QUEUE_MARGIN 1u
#define QUEUE_CREDIT 1u
#define QUEUE_BEHIND 20u

struct queue {
	struct spinlock lock;
	struct vcpu *ready, *asleep, *current;
	uint64_t shift;   /* the host's virtual time minus this queue's */
	uint64_t reached; /* the latest that came on; no less than the host's when nobody is here */
	uint64_t since;   /* queue_host_time() when current came on */
	uint64_t looked;  /* when its CPU last looked for more on others */
	uint64_t first;   /* atomic: the host's virtual time of the first that may be taken */
	uint32_t offers;  /* atomic: how many wait; 0: none that may be taken */
	uint64_t weight;  /* atomic */
	struct queue_info info;
} __attribute__((aligned(64)));

/* Is virtual time a earlier than b? They come round. */
static inline bool queue_before(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b) < 0;
}

/* A moment of this CPU's time stamp counter as one that all CPUs share. */
static inline uint64_t queue_host_time(uint64_t now)
{
	return now - (uint64_t)host_tsc_ahead();
}
uint64_t queue_units(unsigned count);
/* What so many ticks of running cost it. */
uint64_t queue_charge(const struct vcpu *vcpu, uint64_t ticks);

/* ---- queue.c; the queue's lock is held ---- */
/* It waits: by its virtual time, which is this queue's. */
void queue_insert(struct queue *queue, struct vcpu *vcpu);
/* One that is ready is on no list any more. */
void queue_remove(struct queue *queue, struct vcpu *vcpu, enum vcpu_place place);
/* One that is on no list could run from now on. */
void queue_become_ready(struct queue *queue, struct vcpu *vcpu, uint64_t now);
/* One asleep is on no list any more. */
void queue_wake(struct queue *queue, struct vcpu *vcpu);
/* It couldn't run until somebody or its time wakes it; on no list so far. Who asks for something from now on sees it asleep. */
void queue_put_to_sleep(struct queue *queue, struct vcpu *vcpu);
/* Its virtual time becomes this queue's, or the host's again. */
void queue_join(struct queue *queue, struct vcpu *vcpu);
void queue_part(struct queue *queue, struct vcpu *vcpu);
/* Those whose time has come are ready. When is that of the next? */
uint64_t queue_wake_due(struct queue *queue, uint64_t now);
/* The first of those ready runs. */
void queue_come_on(struct queue *queue, uint64_t now);

/* ---- queues.c ---- */
extern struct queue queues[MAX_CPUS];
/* from's lock is held, and given back; the vcpu, on no list, comes to `cpu`, whose queue is returned and locked. */
struct queue *queues_move(struct queue *from, struct vcpu *vcpu, unsigned cpu) must_check;

/* ---- offers.c; no queue's lock is held but where it says so ---- */
/* Could it be taken to this CPU? Its queue's lock is held. */
bool offers_may_come(const struct vcpu *vcpu, unsigned cpu);
/* The CPU isn't idle any more; was it? */
bool offers_end_rest(unsigned cpu);
/* An idle CPU of the set, of the node of *cpu if there's one, the boot CPU, which has the monitor, last; it isn't idle any more. */
bool offers_claim(const struct cpu_set *allowed, unsigned *cpu);
/* Idle CPUs are kicked for those that wait here and could run there. The queue's lock is held. */
void offers_call(const struct queue *queue);
/* This CPU has none ready (empty), or its first is at `own` of the host's virtual time: one of another's comes here, if that is due. */
void offers_take(bool empty, uint64_t own);
