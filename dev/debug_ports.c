/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two ports for tests. A byte written to 0xe9 goes to the debug console, and a read gives 0xe9 back, which is
 * how a guest finds out that the port is there. A write of 8, 16 or 32 bits to 0xf4 asks the machine to stop with that value.
 * Neither has any state: their device is the bus.
 */
#include "dev/debug_ports.h"

static uint32_t console_read(void *device, uint16_t port, unsigned size)
{
	return DEBUG_CONSOLE_PORT;
}

static void console_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct bus *bus = device;

	bus->debug_write(bus->context, (uint8_t)value);
}

static uint32_t exit_read(void *device, uint16_t port, unsigned size)
{
	return 0;
}

static void exit_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct bus *bus = device;

	bus->event(bus->context, MACHINE_EXIT_PORT, value);
}

static const struct port_ops console_ops = { .widest = 1, .read = console_read, .write = console_write };
static const struct port_ops exit_ops = { .widest = 4, .read = exit_read, .write = exit_write };

enum status debug_ports_create(struct bus *bus)
{
	TRY(port_register(bus, DEBUG_CONSOLE_PORT, 1, &console_ops, bus, "debug console"));
	return port_register(bus, EXIT_PORT, 1, &exit_ops, bus, "exit port");
}
