/* SPDX-License-Identifier: Apache-2.0 */
/* The pair of 8259A interrupt controllers of a PC. */
#pragma once

#include "dev/bus.h"

struct pic;

/*
 * output is called with the level of the pair's INTR pin whenever it changes (wire it to the local APIC's LINT0).
 * Ports 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1. NO_MEMORY, CONFLICT.
 */
enum status pic_create(struct bus *bus, void (*output)(void *context, bool level), void *context,
		       struct pic **out) must_check;
void pic_reset(struct pic *pic);
/* Input 0..15; input 2 is the cascade and ignored. */
enum irq_fate pic_set_line(struct pic *pic, unsigned line, bool level);
/* Does the pair ask for an interrupt? */
bool pic_pending(const struct pic *pic);
/* The processor's acknowledge cycle: the vector; a spurious one (input 7 of a chip) if nothing asks any more. */
uint8_t pic_acknowledge(struct pic *pic);
