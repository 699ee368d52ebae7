/* SPDX-License-Identifier: Apache-2.0 */
/* Reset control register 0xcf9, and the place of the PCI configuration ports, which is empty. */
#pragma once

#include "dev/bus.h"

struct reset_port;

/* NO_MEMORY, CONFLICT. */
enum status reset_port_create(struct bus *bus, struct reset_port **out) must_check;
void reset_port_reset(struct reset_port *port);
