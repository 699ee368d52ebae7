/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two 8259As (Intel data sheet 231468) cascaded on input 2, with the edge/level registers of the EISA bridge.
 *
 * Everything that changes a chip's state ends in update(), which carries the slave's output to the
 * master's input 2 and the master's output to whoever created us.
 */
#include "dev/legacy/pic.h"
#include "dev/legacy/pic_chip.h"

struct pic {
	struct bus *bus;
	struct chip chips[2]; /* master, slave */
	bool level;
	void (*output)(void *context, bool level);
	void *context;
};

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

enum irq_fate pic_set_line(struct pic *pic, unsigned line, bool level)
{
	struct chip *chip = &pic->chips[line >> 3 & 1];
	uint8_t waited = chip->irr, bit = (uint8_t)(1u << (line & 7));

	if (line > 15 || line == CASCADE)
		return IRQ_UNHEARD;
	chip_line(chip, line & 7, level);
	update(pic);
	return !(chip->irr & ~chip->imr & bit) ? IRQ_UNHEARD : waited & bit ? IRQ_MERGED : IRQ_TAKEN;
}

bool pic_pending(const struct pic *pic)
{
	return pic->level;
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

static struct chip *chip_of(struct pic *pic, uint16_t port)
{
	return &pic->chips[port >> 7 & 1];
}

static void pic_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct pic *pic = device;
	struct chip *chip = chip_of(pic, port);

	if (port & 1)
		chip_write_data(chip, (uint8_t)value);
	else
		chip_write_command(chip, (uint8_t)value);
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
	chip->irr = (chip->irr & (uint8_t) ~(old | chip->elcr)) | (chip->lines & chip->elcr);
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
		pic->chips[i] = (struct chip){
			.master = i == 0, .lines = lines, .lowest = 7, .imr = 0xff, .elcr_mask = i == 0 ? 0xf8 : 0xde
		};
	}
	update(pic);
}

enum status pic_create(struct bus *bus, void (*output)(void *context, bool level), void *context, struct pic **out)
{
	struct pic *pic = device_alloc(bus, sizeof(*pic));

	if (!pic)
		return NO_MEMORY;
	pic->bus = bus;
	pic->output = output;
	pic->context = context;
	pic_reset(pic);
	for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++)
		TRY(port_register(bus, ranges[i].first, 2, ranges[i].ops, pic, "pic"));
	*out = pic;
	return OK;
}
