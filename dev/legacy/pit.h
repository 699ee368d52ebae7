/* SPDX-License-Identifier: Apache-2.0 */
/* 8254 interval timer, with the speaker's port 0x61. */
#pragma once

#include "dev/bus.h"

#define PIT_HZ 1193182u

struct pit;

/* Ports 0x40..0x43 and 0x61, interrupt line 0. NO_MEMORY, CONFLICT. */
enum status pit_create(struct bus *bus, struct pit **out) must_check;
void pit_reset(struct pit *pit);
