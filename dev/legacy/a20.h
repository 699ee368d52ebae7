/* SPDX-License-Identifier: Apache-2.0 */
/* The A20 gate: one state, which the keyboard controller and port 0x92 both show and set. */
#pragma once

#include "dev/bus.h"

/* Embedded in the machine. */
struct a20 {
	struct bus *bus;
	bool open;
};

/* Open, as firmware leaves it to what it starts. No event is raised. */
void a20_init(struct a20 *a20, struct bus *bus);
void a20_reset(struct a20 *a20);
/* Raises MACHINE_A20 if this changes anything. */
void a20_set(struct a20 *a20, bool open);
