/* SPDX-License-Identifier: Apache-2.0 */
/* The ports of test machines: debug console 0xe9 and exit port 0xf4. Created only when `test_ports = on`. */
#pragma once

#include "dev/bus.h"

#define DEBUG_CONSOLE_PORT 0xe9
#define EXIT_PORT 0xf4

/* NO_MEMORY, CONFLICT. */
enum status debug_ports_create(struct bus *bus) must_check;
