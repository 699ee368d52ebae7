/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One 8259A (Intel data sheet 231468): priorities, initialisation and operation commands.
 *
 * IRR keeps an edge until it is acknowledged, even if the line falls before: a line that pulses while its
 * machine is not scheduled must not be lost. Level inputs are in IRR exactly while their line is high.
 */
#include "dev/legacy/pic_chip.h"
#include "lib/bits.h"

#define ICW1_ICW4 0x01u
#define ICW1_SINGLE 0x02u
#define ICW1_LEVEL 0x08u
#define ICW1_INIT 0x10u
#define ICW4_AUTO_EOI 0x02u
#define ICW4_FULLY_NESTED 0x10u
#define OCW3 0x08u
#define OCW3_READ_ISR 0x01u
#define OCW3_READ 0x02u
#define OCW3_POLL 0x04u
#define OCW3_SPECIAL_MASK 0x20u
#define OCW3_SET_SPECIAL_MASK 0x40u

/* Next initialisation word a chip waits for. */
enum init_step { INIT_DONE, INIT_ICW2, INIT_ICW3, INIT_ICW4 };

/* Rank of the most urgent set bit, 0 most urgent; 8 when there is none. */
static unsigned top_rank(const struct chip *chip, uint8_t inputs)
{
	unsigned first = (chip->lowest + 1u) & 7;
	unsigned rotated = (inputs | (unsigned)inputs << 8) >> first & 0xff;

	return rotated ? (unsigned)__builtin_ctz(rotated) : 8;
}

static uint8_t rank_bit(const struct chip *chip, unsigned rank)
{
	return (uint8_t)(1u << ((chip->lowest + 1u + rank) & 7));
}

int chip_request(const struct chip *chip)
{
	uint8_t in_service = chip->isr;
	unsigned request = top_rank(chip, chip->irr & (uint8_t)~chip->imr);

	if (request == 8)
		return -1;
	/* In special mask mode a masked input in service holds nothing back. */
	if (chip->special_mask)
		in_service &= (uint8_t)~chip->imr;
	/* In special fully nested mode the slave may interrupt its own service. */
	if (chip->fully_nested && chip->master)
		in_service &= (uint8_t)~BIT(CASCADE);
	return request < top_rank(chip, in_service) ? __builtin_ctz(rank_bit(chip, request)) : -1;
}

static uint8_t level_inputs(const struct chip *chip)
{
	return chip->level_mode ? 0xff : chip->elcr;
}

void chip_line(struct chip *chip, unsigned input, bool level)
{
	uint8_t bit = (uint8_t)(1u << input);
	bool rising = level && !(chip->lines & bit);

	chip->lines = level ? chip->lines | bit : chip->lines & (uint8_t)~bit;
	if (level_inputs(chip) & bit)
		chip->irr = level ? chip->irr | bit : chip->irr & (uint8_t)~bit;
	else if (rising)
		chip->irr |= bit;
}

void chip_accept(struct chip *chip, unsigned input)
{
	uint8_t bit = (uint8_t)(1u << input);

	if (!(level_inputs(chip) & bit))
		chip->irr &= (uint8_t)~bit;
	if (!chip->auto_eoi)
		chip->isr |= bit;
	else if (chip->rotate_auto)
		chip->lowest = (uint8_t)input;
}

static void initialise(struct chip *chip, uint8_t icw1)
{
	chip->level_mode = icw1 & ICW1_LEVEL;
	chip->single = icw1 & ICW1_SINGLE;
	chip->needs_icw4 = icw1 & ICW1_ICW4;
	chip->step = INIT_ICW2;
	chip->irr = chip->lines & level_inputs(chip); /* the edge detectors start over */
	chip->imr = chip->isr = 0;
	chip->lowest = 7;
	chip->special_mask = chip->read_isr = chip->poll = false;
	if (!chip->needs_icw4)
		chip->auto_eoi = chip->fully_nested = false;
	chip->rotate_auto = false;
}

/* OCW2: bits 7:5 rotate, specific, EOI; 2:0 the input where specific. */
static void command(struct chip *chip, uint8_t value)
{
	unsigned input = value & 7, operation = value >> 5, rank;

	switch (operation) {
	case 0:
	case 4: /* rotate in automatic EOI mode: clear, set */ chip->rotate_auto = operation == 4; break;
	case 1:
	case 5: /* non-specific EOI, with rotation */
		rank = top_rank(chip, chip->special_mask ? chip->isr & (uint8_t)~chip->imr : chip->isr);
		if (rank == 8)
			break;
		input = (unsigned)__builtin_ctz(rank_bit(chip, rank));
		chip->isr &= (uint8_t) ~(1u << input);
		if (operation == 5)
			chip->lowest = (uint8_t)input;
		break;
	case 3:
	case 7: /* specific EOI, with rotation */
		chip->isr &= (uint8_t) ~(1u << input);
		if (operation == 7)
			chip->lowest = (uint8_t)input;
		break;
	case 6: /* set priority */ chip->lowest = (uint8_t)input; break;
	default: /* 2: no operation */ break;
	}
}

static void mode(struct chip *chip, uint8_t value)
{
	if (value & OCW3_POLL)
		chip->poll = true;
	if (value & OCW3_READ)
		chip->read_isr = value & OCW3_READ_ISR;
	if (value & OCW3_SET_SPECIAL_MASK)
		chip->special_mask = value & OCW3_SPECIAL_MASK;
}

void chip_write_data(struct chip *chip, uint8_t value)
{
	switch (chip->step) {
	case INIT_ICW2:
		chip->base = value & 0xf8;
		chip->step = !chip->single ? INIT_ICW3 : chip->needs_icw4 ? INIT_ICW4 : INIT_DONE;
		break;
	case INIT_ICW3: /* the wiring is fixed; nothing to learn */
		chip->step = chip->needs_icw4 ? INIT_ICW4 : INIT_DONE;
		break;
	case INIT_ICW4:
		chip->auto_eoi = value & ICW4_AUTO_EOI;
		chip->fully_nested = value & ICW4_FULLY_NESTED;
		chip->step = INIT_DONE;
		break;
	default: chip->imr = value; break;
	}
}

void chip_write_command(struct chip *chip, uint8_t value)
{
	if (value & ICW1_INIT)
		initialise(chip, value);
	else if (value & OCW3)
		mode(chip, value);
	else
		command(chip, value);
}
