/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One counter of an 8254 (Intel data sheet 231164), as a function of time: nothing here ticks. Times are tick numbers of
 * the 1193182 Hz input clock, counted from the machine's start.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum pit_access { PIT_LATCH, PIT_LOW, PIT_HIGH, PIT_LOW_HIGH };

struct pit_counter {
	uint8_t mode;   /* 0..5 */
	uint8_t access; /* enum pit_access */
	bool bcd, gate;
	bool loaded;                /* a count was written since the control word */
	bool triggered;             /* modes 1 and 5: the gate has started it */
	bool held;                  /* modes 0 and 4: stopped by the gate or a half-written count; elapsed counts */
	bool write_high, read_high; /* which half comes next */
	uint8_t low_byte;           /* the half that was written */
	uint32_t count;             /* 1..65536 (10000 in BCD) */
	uint32_t next_count;        /* modes 2 and 3: from tick next_start on; 0: none */
	uint64_t start;             /* the tick at which the counter holds count */
	uint64_t next_start;
	bool next_low;    /* mode 3: it takes over with its low half */
	uint64_t elapsed; /* while held */
	bool count_latched, status_latched;
	uint16_t latch;
	uint8_t status;
};

/* Each brings the counter up to `tick` first. */
void pit_counter_control(struct pit_counter *counter, uint8_t control, uint64_t tick);
void pit_counter_write(struct pit_counter *counter, uint8_t value, uint64_t tick);
uint8_t pit_counter_read(struct pit_counter *counter, uint64_t tick);
void pit_counter_set_gate(struct pit_counter *counter, bool gate, uint64_t tick);
void pit_counter_latch(struct pit_counter *counter, uint64_t tick);
void pit_counter_latch_status(struct pit_counter *counter, uint64_t tick);
bool pit_counter_output(struct pit_counter *counter, uint64_t tick);
/* Ticks from edge to edge while they come by themselves; 0: they don't. */
uint32_t pit_counter_period(const struct pit_counter *counter);
/* The tick of the next rising edge of OUT after `tick`; UINT64_MAX: none to come as things stand. */
uint64_t pit_counter_next_rise(struct pit_counter *counter, uint64_t tick);
