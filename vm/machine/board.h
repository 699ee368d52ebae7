/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board: which devices a machine has, and how they are wired to one another. Everything
 * here is called under machine->lock, but for board_interrupt_pending's unlocked peek.
 */
#ifndef VM_MACHINE_BOARD_H
#define VM_MACHINE_BOARD_H

#include "vm/machine/machine.h"

/* Creates the devices; on failure nothing is left. */
enum status board_create(struct machine *machine) must_check;
void board_destroy(struct machine *machine);
/* Every device as after power-on; its wires, windows and handlers stay. */
void board_reset(struct machine *machine);
/*
 * The page of the boot vcpu's local APIC is where its IA32_APIC_BASE says, from now on. CONFLICT: memory or another device
 * is there; BAD_VALUE: beyond all memory. On the vcpu's CPU or with the vcpus stopped, without any lock, machine->lock neither.
 */
enum status board_place_apic(struct machine *machine) must_check;
struct lapic *board_lapic(struct board *board, unsigned vcpu);
/* An interrupt for this CPU, from its local APIC or (on the boot vcpu) the PICs. Cheap: asked before each entry. */
bool board_interrupt_pending(struct board *board, struct lapic *lapic);
/* Acknowledges it; -1 when it has gone. */
int board_take_interrupt(struct board *board, struct lapic *lapic);
size_t board_console_input(struct board *board, const uint8_t *bytes, size_t length);

#endif
