/* SPDX-License-Identifier: Apache-2.0 */
/* Port 0x92: bit 1 is the A20 gate, a rising bit 0 resets the processor; the rest is kept and read back. */
#include "dev/legacy/port92.h"

#define PORT 0x92
#define FAST_RESET 0x01u
#define A20_GATE 0x02u

struct port92 {
	struct bus *bus;
	struct a20 *a20;
	uint8_t value; /* without the gate's bit */
};

static uint32_t port92_read(void *device, uint16_t port, unsigned size)
{
	struct port92 *port92 = device;

	return port92->value | (port92->a20->open ? A20_GATE : 0);
}

static void port92_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct port92 *port92 = device;
	bool reset = value & ~port92->value & FAST_RESET;

	port92->value = (uint8_t)value & (uint8_t)~A20_GATE;
	a20_set(port92->a20, value & A20_GATE);
	if (reset)
		port92->bus->event(port92->bus->context, MACHINE_RESET, 0);
}

static const struct port_ops port92_ops = { .widest = 1, .read = port92_read, .write = port92_write };

enum status port92_create(struct bus *bus, struct a20 *a20, struct port92 **out)
{
	struct port92 *port92 = device_alloc(bus, sizeof(*port92));

	if (!port92)
		return NO_MEMORY;
	*port92 = (struct port92){ .bus = bus, .a20 = a20 };
	TRY(port_register(bus, PORT, 1, &port92_ops, port92, "port 0x92"));
	*out = port92;
	return OK;
}

void port92_reset(struct port92 *port92)
{
	port92->value = 0;
}
