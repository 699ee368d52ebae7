/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The A20 gate's one state. On a PC the wires of two chips are or-ed together; guests expect each to read back what
 * the other has done, so here both work on this.
 */
#include "dev/legacy/a20.h"

void a20_init(struct a20 *a20, struct bus *bus)
{
	*a20 = (struct a20){ .bus = bus, .open = true };
}

void a20_set(struct a20 *a20, bool open)
{
	if (a20->open == open)
		return;
	a20->open = open;
	a20->bus->event(a20->bus->context, MACHINE_A20, open);
}

void a20_reset(struct a20 *a20)
{
	a20_set(a20, true);
}
