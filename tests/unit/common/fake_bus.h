/* SPDX-License-Identifier: Apache-2.0 */
/* A bus for device tests: a clock set by hand, and a record of all that devices say. */
#pragma once

#include "dev/bus.h"

struct fake_bus {
	struct bus bus;
	uint64_t time;
	bool level[24];
	unsigned edges[24]; /* rising ones */
	bool waiting[24];   /* an edge that nobody has taken yet */
	bool deaf;          /* nobody listens */
	bool locked;
	unsigned locks; /* how often it was taken */
	/* Timers beside the bus's queue: local APICs'. May be NULL. */
	uint64_t (*more_next)(void);
	void (*run_more)(uint64_t now);
	unsigned events;
	enum machine_event event;
	uint32_t value; /* of the last event */
	uint8_t console[4096];
	size_t console_length;
	uint8_t debug[256];
	size_t debug_length;
	struct mmio_window *windows; /* those that move */
	unsigned moves;
	unsigned messages;
	uint64_t message_address;
	uint32_t message_data;
	uint8_t *memory; /* the guest's, from 0 on; the test's own. Beyond it reads are all ones, writes lost */
	uint64_t memory_size;
	long memory_budget; /* accesses that succeed before each fails with NO_MEMORY; negative: all do */
};

void fake_bus_open(struct fake_bus *fake);
void fake_bus_close(struct fake_bus *fake);
/* Moves the clock forward, stopping at each deadline on the way. */
void fake_bus_advance(struct fake_bus *fake, uint64_t nanoseconds);
/* Takes an interrupt of a line, if one waits. */
bool fake_bus_take_one(struct fake_bus *fake, unsigned line);
/* Takes interrupts of a line, and what is owed behind each, until none waits; how many. */
unsigned fake_bus_take(struct fake_bus *fake, unsigned line);
/* The machine doesn't run for so long; then its timers do. */
void fake_bus_stand_still(struct fake_bus *fake, uint64_t nanoseconds);
/* The device's page at a guest-physical address, as the machine would have it now: the window and the offset in it; NULL: nobody. */
struct mmio_window *fake_bus_find(struct fake_bus *fake, uint64_t where);
uint64_t mmio_in(struct fake_bus *fake, uint64_t where, unsigned size);
void mmio_out(struct fake_bus *fake, uint64_t where, unsigned size, uint64_t value);
uint8_t in8(struct fake_bus *fake, uint16_t port);
void out8(struct fake_bus *fake, uint16_t port, uint8_t value);
