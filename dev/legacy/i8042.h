/* SPDX-License-Identifier: Apache-2.0 */
/* 8042 keyboard controller with a keyboard that is never typed on, and no mouse. */
#pragma once

#include "dev/legacy/a20.h"

struct i8042;

/* Ports 0x60 and 0x64, interrupt line 1. NO_MEMORY, CONFLICT. */
enum status i8042_create(struct bus *bus, struct a20 *a20, struct i8042 **out) must_check;
void i8042_reset(struct i8042 *controller);
