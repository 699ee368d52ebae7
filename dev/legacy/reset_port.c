/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port 0xcf9: bit 1 chooses a hard reset, bit 3 a full one; a rising bit 2 carries it out. All are the same here.
 * A wider access that covers it begins at 0xcf8, which is the PCI bridge's.
 */
#include "dev/legacy/reset_port.h"

#define RESET_CONTROL 0xcf9
#define RESET_SYSTEM 0x02u
#define RESET_NOW 0x04u
#define RESET_FULL 0x08u

struct reset_port {
	struct bus *bus;
	uint8_t value;
};

static uint32_t reset_read(void *device, uint16_t port, unsigned size)
{
	return ((struct reset_port *)device)->value;
}

static void reset_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct reset_port *reset = device;
	bool now = value & ~reset->value & RESET_NOW;

	reset->value = value & (RESET_SYSTEM | RESET_NOW | RESET_FULL);
	if (now)
		reset->bus->event(reset->bus->context, MACHINE_RESET, 0);
}

static const struct port_ops reset_ops = { .widest = 1, .read = reset_read, .write = reset_write };

enum status reset_port_create(struct bus *bus, struct reset_port **out)
{
	struct reset_port *port = device_alloc(bus, sizeof(*port));

	if (!port)
		return NO_MEMORY;
	port->bus = bus;
	TRY(port_register(bus, RESET_CONTROL, 1, &reset_ops, port, "reset control"));
	*out = port;
	return OK;
}

void reset_port_reset(struct reset_port *port)
{
	port->value = 0;
}
