/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spin locks with ranks. A CPU may take a lock only if its rank is above every
 * rank it already holds; debug builds (QUIRE_DEBUG=1) panic on a lock out of order,
 * naming both. The host runs with interrupts off outside its idle window, so no
 * variant that saves the interrupt flag is needed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* From the outermost to the innermost. */
enum lock_rank {
	RANK_MACHINE = 1,
	RANK_HANDLERS, /* the access handlers of one machine */
	RANK_PGM,      /* ranges, directory of one machine */
	RANK_SHADOW,   /* a part of one root's composed tables */
	RANK_BLOCK,    /* one 2 MiB block's records */
	RANK_RESERVE,  /* a machine's frames kept ready */
	RANK_ACCOUNT,  /* a machine's accounts, the host's totals */
	RANK_CHUNK,    /* chunk lists and frame records */
	RANK_LEAF,     /* anything that takes no further lock */
	RANK_COUNT,
};

struct spinlock {
	uint32_t held; /* atomic: 0 free, 1 held */
	uint8_t rank;
	const char *name;
};

#define SPINLOCK(lock_rank, lock_name)                                                                                 \
	{                                                                                                              \
		.held = 0, .rank = (lock_rank), .name = (lock_name)                                                    \
	}

/* Books and checks ranks; spinlock.c keeps them per CPU and does nothing unless debugging. */
extern bool lock_rank_switch;
#define lock_rank_debug (QUIRE_DEBUG && lock_rank_switch) /* a release build carries none of it */
void lock_rank_enter(unsigned rank, const char *name);
void lock_rank_leave(unsigned rank);

static inline void spin_pause(void)
{
	__builtin_ia32_pause();
}

static inline void lock_init(struct spinlock *lock, enum lock_rank rank, const char *name)
{
	*lock = (struct spinlock)SPINLOCK((uint8_t)rank, name);
}

static inline void lock_acquire(struct spinlock *lock)
{
	if (QUIRE_DEBUG && __builtin_expect(lock_rank_debug, 0))
		lock_rank_enter(lock->rank, lock->name);
	while (__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE))
		while (__atomic_load_n(&lock->held, __ATOMIC_RELAXED))
			spin_pause();
}

static inline void lock_release(struct spinlock *lock)
{
	__atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE);
	if (QUIRE_DEBUG && __builtin_expect(lock_rank_debug, 0))
		lock_rank_leave(lock->rank);
}

static inline struct spinlock *lock_enter(struct spinlock *lock)
{
	lock_acquire(lock);
	return lock;
}

static inline void lock_leave(struct spinlock **lock)
{
	lock_release(*lock);
}

/* A declaration: this lock is held from here to the end of the block of code, whichever way that is left; never one that changes meanwhile. */
#define HOLD(lock) HOLD_AS(lock, __COUNTER__)
#define HOLD_AS(lock, number) HOLD_NAMED(lock, number)
#define HOLD_NAMED(lock, number)                                                                                       \
	__attribute__((cleanup(lock_leave), unused)) struct spinlock *held_##number = lock_enter(lock)
