/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keyboard controller: what remains of it on a machine without keys is the A20 gate, the reset line, and
 * enough of a controller and a keyboard that a driver's probe gets all its answers at once instead of waiting.
 *
 * Answers wait in a small queue whose head is the output buffer. The interrupt line is high while the buffer is
 * full and the configuration byte asks for it, and drops between bytes, since it is edge triggered.
 *
 * After reset the configuration is what firmware leaves: interrupt on, translation on, auxiliary port off.
 */
#include "dev/legacy/i8042.h"

#define DATA_PORT 0x60
#define COMMAND_PORT 0x64
#define KEYBOARD_LINE 1
#define QUEUE_SIZE 16u
#define RAM_SIZE 32u

#define STATUS_FULL 0x01u
#define STATUS_SYSTEM 0x04u
#define STATUS_COMMAND 0x08u
#define STATUS_UNLOCKED 0x10u

#define CONFIG_INTERRUPT 0x01u
#define CONFIG_SYSTEM 0x04u
#define CONFIG_KEYBOARD_OFF 0x10u
#define CONFIG_AUXILIARY_OFF 0x20u
#define CONFIG_TRANSLATE 0x40u

#define OUTPUT_NO_RESET 0x01u
#define OUTPUT_A20 0x02u
#define OUTPUT_FIXED 0xccu /* clock and data lines at rest */

#define KEYBOARD_ACK 0xfau
#define KEYBOARD_RESEND 0xfeu
#define SELF_TEST_OK 0x55u
#define PORT_CLOCK_STUCK 0x01u /* what an absent auxiliary port tests as */

struct i8042 {
	struct bus *bus;
	struct a20 *a20;
	uint8_t ram[RAM_SIZE];    /* byte 0 is the configuration */
	uint8_t command;          /* controller command that waits for its data byte, else 0 */
	uint8_t keyboard_command; /* the same for the keyboard */
	uint8_t scan_set, last_sent;
	bool last_was_command, level;
	uint8_t queue[QUEUE_SIZE], first, count;
};

static void set_line(struct i8042 *controller, bool level)
{
	if (level == controller->level)
		return;
	controller->level = level;
	controller->bus->set_irq(controller->bus->context, KEYBOARD_LINE, level);
}

static void update_line(struct i8042 *controller)
{
	set_line(controller, controller->count && controller->ram[0] & CONFIG_INTERRUPT);
}

/* A queue that is full swallows the byte: the guest asks without reading. */
static void answer(struct i8042 *controller, uint8_t byte)
{
	if (controller->count < QUEUE_SIZE)
		controller->queue[(controller->first + controller->count++) % QUEUE_SIZE] = byte;
}

static uint8_t output_port(const struct i8042 *controller)
{
	return OUTPUT_FIXED | OUTPUT_NO_RESET | (controller->a20->open ? OUTPUT_A20 : 0) |
	       (controller->count ? 0x10 : 0);
}

static void write_output_port(struct i8042 *controller, uint8_t value)
{
	a20_set(controller->a20, value & OUTPUT_A20);
	if (!(value & OUTPUT_NO_RESET))
		controller->bus->event(controller->bus->context, MACHINE_RESET, 0);
}

static void controller_command(struct i8042 *controller, uint8_t command)
{
	controller->command = 0;
	switch (command) {
	case 0x20 ... 0x3f: answer(controller, controller->ram[command & (RAM_SIZE - 1)]); break;
	case 0x60 ... 0x7f: /* write RAM */
	case 0xd1:
	case 0xd2:
	case 0xd3:
	case 0xd4: controller->command = command; break;
	case 0xa7: controller->ram[0] |= CONFIG_AUXILIARY_OFF; break;
	case 0xa8: /* there is no auxiliary port to switch on */ break;
	case 0xa9: answer(controller, PORT_CLOCK_STUCK); break;
	case 0xaa:
		controller->ram[0] |= CONFIG_SYSTEM;
		answer(controller, SELF_TEST_OK);
		break;
	case 0xab: answer(controller, 0); break;
	case 0xad: controller->ram[0] |= CONFIG_KEYBOARD_OFF; break;
	case 0xae: controller->ram[0] &= (uint8_t)~CONFIG_KEYBOARD_OFF; break;
	case 0xc0: /* input port: keyboard not locked */ answer(controller, 0x80); break;
	case 0xd0: answer(controller, output_port(controller)); break;
	case 0xdd:
	case 0xdf: a20_set(controller->a20, command == 0xdf); break;
	case 0xe0: /* test inputs: clock and data of the keyboard */ answer(controller, 0); break;
	case 0xf0 ... 0xff: /* pulse the output port's low bits that are 0 */
		if (!(command & OUTPUT_NO_RESET))
			controller->bus->event(controller->bus->context, MACHINE_RESET, 0);
		break;
	default: break;
	}
}

/* The data byte of a controller command. */
static void controller_data(struct i8042 *controller, uint8_t value)
{
	uint8_t command = controller->command;

	controller->command = 0;
	if (command >= 0x60 && command <= 0x7f)
		controller->ram[command & (RAM_SIZE - 1)] = value;
	else if (command == 0xd1)
		write_output_port(controller, value);
	else if (command == 0xd2 || command == 0xd3)
		/* With no auxiliary port the loop comes back as a keyboard byte, which tells a driver so. */
		answer(controller, value);
	/* 0xd4: nobody listens on the auxiliary port. */
}

static void keyboard_send(struct i8042 *controller, uint8_t byte)
{
	controller->last_sent = byte;
	answer(controller, byte);
}

/* The second byte of a keyboard command. */
static void keyboard_data(struct i8042 *controller, uint8_t value)
{
	uint8_t command = controller->keyboard_command;

	controller->keyboard_command = 0;
	keyboard_send(controller, KEYBOARD_ACK);
	if (command != 0xf0)
		return; /* lamps (0xed) and key repeat (0xf3) have no effect */
	if (value)
		controller->scan_set = value & 3;
	else
		keyboard_send(controller, controller->scan_set);
}

static void keyboard_command(struct i8042 *controller, uint8_t command)
{
	switch (command) {
	case 0xed:
	case 0xf0:
	case 0xf3:
		controller->keyboard_command = command;
		keyboard_send(controller, KEYBOARD_ACK);
		break;
	case 0xee: keyboard_send(controller, 0xee); break;
	case 0xf2:
		keyboard_send(controller, KEYBOARD_ACK);
		keyboard_send(controller, 0xab);
		keyboard_send(controller, 0x83);
		break;
	case 0xf4:
	case 0xf5:
	case 0xf6: keyboard_send(controller, KEYBOARD_ACK); break;
	case 0xfe: answer(controller, controller->last_sent); break;
	case 0xff:
		controller->scan_set = 2;
		keyboard_send(controller, KEYBOARD_ACK);
		keyboard_send(controller, 0xaa);
		break;
	default: keyboard_send(controller, KEYBOARD_RESEND); break;
	}
}

static uint32_t data_read(void *device, uint16_t port, unsigned size)
{
	struct i8042 *controller = device;
	uint8_t value = controller->queue[controller->first];

	if (!controller->count)
		return value; /* the buffer keeps its last byte */
	controller->count--;
	if (controller->count)
		controller->first = (controller->first + 1) % QUEUE_SIZE;
	set_line(controller, false);
	update_line(controller);
	return value;
}

static void data_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct i8042 *controller = device;

	controller->last_was_command = false;
	if (controller->command) {
		controller_data(controller, (uint8_t)value);
	} else {
		controller->ram[0] &= (uint8_t)~CONFIG_KEYBOARD_OFF; /* sending switches the port on */
		if (controller->keyboard_command && !(value & 0x80))
			keyboard_data(controller, (uint8_t)value);
		else {
			controller->keyboard_command = 0;
			keyboard_command(controller, (uint8_t)value);
		}
	}
	update_line(controller);
}

static uint32_t status_read(void *device, uint16_t port, unsigned size)
{
	struct i8042 *controller = device;

	return STATUS_UNLOCKED | (controller->count ? STATUS_FULL : 0) |
	       (controller->ram[0] & CONFIG_SYSTEM ? STATUS_SYSTEM : 0) |
	       (controller->last_was_command ? STATUS_COMMAND : 0);
}

static void command_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct i8042 *controller = device;

	controller->last_was_command = true;
	controller_command(controller, (uint8_t)value);
	update_line(controller);
}

static const struct port_ops data_ops = { .widest = 1, .read = data_read, .write = data_write };
static const struct port_ops command_ops = { .widest = 1, .read = status_read, .write = command_write };

void i8042_reset(struct i8042 *controller)
{
	for (unsigned i = 0; i < RAM_SIZE; i++)
		controller->ram[i] = 0;
	controller->ram[0] = CONFIG_INTERRUPT | CONFIG_SYSTEM | CONFIG_AUXILIARY_OFF | CONFIG_TRANSLATE;
	controller->command = controller->keyboard_command = controller->last_sent = 0;
	controller->scan_set = 2;
	controller->last_was_command = false;
	controller->first = controller->count = 0;
	update_line(controller);
}

enum status i8042_create(struct bus *bus, struct a20 *a20, struct i8042 **out)
{
	struct i8042 *controller = device_alloc(bus, sizeof(*controller));

	if (!controller)
		return NO_MEMORY;
	controller->bus = bus;
	controller->a20 = a20;
	i8042_reset(controller);
	TRY(port_register(bus, DATA_PORT, 1, &data_ops, controller, "i8042 data"));
	TRY(port_register(bus, COMMAND_PORT, 1, &command_ops, controller, "i8042 command"));
	*out = controller;
	return OK;
}
