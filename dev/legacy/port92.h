/* SPDX-License-Identifier: Apache-2.0 */
/* System control port A (0x92): A20 and fast reset. */
#pragma once

#include "dev/legacy/a20.h"

struct port92;

/* NO_MEMORY, CONFLICT. */
enum status port92_create(struct bus *bus, struct a20 *a20, struct port92 **out) must_check;
void port92_reset(struct port92 *port92);
