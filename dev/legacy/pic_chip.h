/* SPDX-License-Identifier: Apache-2.0 */
/* One 8259A, apart from its wiring. Only dev/legacy/pic.c uses it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CASCADE 2u /* the master's input that the slave's output is wired to */

struct chip {
	uint8_t irr, isr, imr, lines, elcr, elcr_mask;
	uint8_t base;   /* vector of input 0 */
	uint8_t lowest; /* the input that has the lowest priority */
	uint8_t step;   /* enum init_step */
	bool master, level_mode, single, needs_icw4;
	bool auto_eoi, rotate_auto, fully_nested, special_mask, read_isr, poll;
};

/* The input that the chip asks an interrupt for now, or -1. */
int chip_request(const struct chip *chip);
void chip_line(struct chip *chip, unsigned input, bool level);
/* Takes the input into service, or with automatic EOI straight through it. */
void chip_accept(struct chip *chip, unsigned input);
/* Writes to the even port (ICW1, OCW2, OCW3) and to the odd one (ICW2..4, mask). */
void chip_write_command(struct chip *chip, uint8_t value);
void chip_write_data(struct chip *chip, uint8_t value);
