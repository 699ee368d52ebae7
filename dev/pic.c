/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two 8259As (Intel data sheet 231468) cascaded on input 2, with the edge/level registers of the EISA bridge.
 *
 * IRR keeps an edge until it is acknowledged, even if the line falls before: a line that pulses while its
 * machine is not scheduled must not be lost. Level inputs are in IRR exactly while their line is high.
 *
 * Everything that changes a chip's state ends in update(), which carries the slave's output to the
 * master's input 2 and the master's output to whoever created us.
 */
#include "dev/pic.h"
#include "lib/bits.h"
#include "lib/memory.h"

#define CASCADE 2u
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

struct chip {
	uint8_t irr, isr, imr, lines, elcr, elcr_mask;
	uint8_t base;        /* vector of input 0 */
	uint8_t lowest;      /* the input that has the lowest priority */
	uint8_t step;        /* enum init_step */
	bool master, level_mode, single, needs_icw4;
	bool auto_eoi, rotate_auto, fully_nested, special_mask, read_isr, poll;
};

struct pic {
	struct bus *bus;
	struct chip chips[2]; /* master, slave */
	bool level;
	void (*output)(void *context, bool level);
	void *context;
};

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

/* The input that the chip asks an interrupt for now, or -1. */
static int chip_request(const struct chip *chip)
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
	if (request >= top_rank(chip, in_service))
		return -1;
	return __builtin_ctz(rank_bit(chip, request));
}

static uint8_t level_inputs(const struct chip *chip)
{
	return chip->level_mode ? 0xff : chip->elcr;
}

static void chip_line(struct chip *chip, unsigned input, bool level)
{
	uint8_t bit = (uint8_t)(1u << input);
	bool rising = level && !(chip->lines & bit);

	chip->lines = level ? chip->lines | bit : chip->lines & (uint8_t)~bit;
	if (level_inputs(chip) & bit)
		chip->irr = level ? chip->irr | bit : chip->irr & (uint8_t)~bit;
	else if (rising)
		chip->irr |= bit;
}

static void update(struct pic *pic)
{
	bool slave = chip_request(&pic->chips[1]) >= 0;
	struct chip *master = &pic->chips[0];
	bool level;

	/* The cascade input follows the slave's output, whatever the trigger mode. */
	master->irr = slave ? master->irr | BIT(CASCADE) : master->irr & (uint8_t)~BIT(CASCADE);
	level = chip_request(master) >= 0;
	if (level == pic->level)
		return;
	pic->level = level;
	pic->output(pic->context, level);
}

void pic_set_line(struct pic *pic, unsigned line, bool level)
{
	if (line > 15 || line == CASCADE)
		return;
	chip_line(&pic->chips[line >> 3], line & 7, level);
	update(pic);
}

bool pic_pending(const struct pic *pic)
{
	return pic->level;
}

/* Takes the input into service, or with automatic EOI straight through it. */
static void chip_accept(struct chip *chip, unsigned input)
{
	uint8_t bit = (uint8_t)(1u << input);

	if (!(level_inputs(chip) & bit))
		chip->irr &= (uint8_t)~bit;
	if (!chip->auto_eoi)
		chip->isr |= bit;
	else if (chip->rotate_auto)
		chip->lowest = (uint8_t)input;
}

uint8_t pic_acknowledge(struct pic *pic)
{
	struct chip *master = &pic->chips[0], *slave = &pic->chips[1];
	int input = chip_request(master);
	uint8_t vector = master->base + 7;

	if (input >= 0) {
		chip_accept(master, (unsigned)input);
		vector = master->base + (uint8_t)input;
	}
	if (input == CASCADE) {
		input = chip_request(slave);
		if (input >= 0)
			chip_accept(slave, (unsigned)input);
		vector = slave->base + (input >= 0 ? (uint8_t)input : 7);
	}
	update(pic);
	return vector;
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
	case 0: case 4:         /* rotate in automatic EOI mode: clear, set */
		chip->rotate_auto = operation == 4;
		break;
	case 1: case 5:         /* non-specific EOI, with rotation */
		rank = top_rank(chip, chip->special_mask ? chip->isr & (uint8_t)~chip->imr : chip->isr);
		if (rank == 8)
			break;
		input = (unsigned)__builtin_ctz(rank_bit(chip, rank));
		chip->isr &= (uint8_t)~(1u << input);
		if (operation == 5)
			chip->lowest = (uint8_t)input;
		break;
	case 3: case 7:         /* specific EOI, with rotation */
		chip->isr &= (uint8_t)~(1u << input);
		if (operation == 7)
			chip->lowest = (uint8_t)input;
		break;
	case 6:                 /* set priority */
		chip->lowest = (uint8_t)input;
		break;
	default:                /* 2: no operation */
		break;
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

static void write_data(struct chip *chip, uint8_t value)
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
	default:
		chip->imr = value;
		break;
	}
}

static struct chip *chip_of(struct pic *pic, uint16_t port)
{
	return &pic->chips[port >> 7 & 1];
}

static void pic_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct pic *pic = device;
	struct chip *chip = chip_of(pic, port);

	if (port & 1)
		write_data(chip, (uint8_t)value);
	else if (value & ICW1_INIT)
		initialise(chip, (uint8_t)value);
	else if (value & OCW3)
		mode(chip, (uint8_t)value);
	else
		command(chip, (uint8_t)value);
	update(pic);
}

/* A read after the poll command is an acknowledge: bit 7 whether anything asked, 2:0 which. */
static uint8_t poll(struct pic *pic, struct chip *chip)
{
	int input = chip_request(chip);

	chip->poll = false;
	if (input < 0)
		return 0;
	chip_accept(chip, (unsigned)input);
	update(pic);
	return (uint8_t)(0x80 | input);
}

static uint32_t pic_read(void *device, uint16_t port, unsigned size)
{
	struct pic *pic = device;
	struct chip *chip = chip_of(pic, port);

	if (chip->poll)
		return poll(pic, chip);
	if (port & 1)
		return chip->imr;
	return chip->read_isr ? chip->isr : chip->irr;
}

static uint32_t elcr_read(void *device, uint16_t port, unsigned size)
{
	return ((struct pic *)device)->chips[port & 1].elcr;
}

static void elcr_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct pic *pic = device;
	struct chip *chip = &pic->chips[port & 1];
	uint8_t old = chip->elcr;

	chip->elcr = (uint8_t)value & chip->elcr_mask;
	/* An input that became level sensitive shows its line at once. */
	chip->irr = (chip->irr & (uint8_t)~(old | chip->elcr)) | (chip->lines & chip->elcr);
	update(pic);
}

static const struct port_ops pic_ops = { .widest = 1, .read = pic_read, .write = pic_write };
static const struct port_ops elcr_ops = { .widest = 1, .read = elcr_read, .write = elcr_write };

static const struct {
	uint16_t first;
	const struct port_ops *ops;
} ranges[] = { { 0x20, &pic_ops }, { 0xa0, &pic_ops }, { 0x4d0, &elcr_ops } };

/* The lines are wires: they keep their levels. */
void pic_reset(struct pic *pic)
{
	for (unsigned i = 0; i < 2; i++) {
		uint8_t lines = pic->chips[i].lines;

		/* Inputs 0, 1, 2, 8 and 13 can't be level sensitive (they are wired on the board). */
		pic->chips[i] = (struct chip){ .master = i == 0, .lines = lines, .lowest = 7, .imr = 0xff,
					       .elcr_mask = i == 0 ? 0xf8 : 0xde };
	}
	update(pic);
}

enum status pic_create(struct bus *bus, void (*output)(void *context, bool level), void *context, struct pic **out)
{
	struct pic *pic = heap_alloc(sizeof(*pic));
	enum status status = OK;

	if (!pic)
		return NO_MEMORY;
	pic->bus = bus;
	pic->output = output;
	pic->context = context;
	pic_reset(pic);
	for (unsigned i = 0; i < ARRAY_SIZE(ranges) && status == OK; i++)
		status = port_register(bus, ranges[i].first, 2, ranges[i].ops, pic, "pic");
	if (status != OK) {
		pic_destroy(pic);
		return status;
	}
	*out = pic;
	return OK;
}

void pic_destroy(struct pic *pic)
{
	if (!pic)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++)
		port_unregister(pic->bus, ranges[i].first, 2, pic);
	heap_free(pic, sizeof(*pic));
}
