/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board: which devices a machine has, and how they are wired to one another. Everything
 * here is called under machine->lock, or while none of its vcpus runs.
 */
#pragma once

#include "vm/machine.h"

/* Creates the devices; on failure nothing is left. */
enum status board_create(struct machine *machine) must_check;
void board_destroy(struct machine *machine);
/* Every device as after power-on; its wires, windows and handlers stay. */
void board_reset(struct machine *machine);
struct lapic *board_lapic(struct board *board, unsigned vcpu);
void board_press_button(struct board *board);
size_t board_console_input(struct board *board, const uint8_t *bytes, size_t length);
