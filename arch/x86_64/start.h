/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order in which kernel_main opens the host processor's room. Boot CPU, interrupts off throughout.
 *
 *  1. arch_early(info)             consoles, features, descriptor tables, traps, MTRRs. From here on log_line, panic,
 * exceptions
 *                                  and log_drain work. info is still at its host-physical address.
 *  2. (the caller reads the memory map, finds a place for the trampoline, opens its early allocator)
 *  3. arch_paging(info, trampoline, source, context)
 *                                  own page tables. On return the identity map is gone: every host-physical address
 *                                  is reached at DIRECT_BASE + hpa; the caller sets direct_map to that, and
 *                                  reaches info there too.
 *  4. arch_platform(info)          ACPI, consoles for good, PICs, local APIC, clock, I/O APICs.
 *  5. (the caller opens mm and calls paging_set_source() with a source that serves from then on)
 *  6. smp_start(info, ap_open, ap_main)  smp.h; any time after 4.
 *
 * A refusal is a status and a line in the log that says what is missing; the caller prints the page and calls
 * arch_refuse().
 */
#pragma once

#include "arch/x86_64/paging.h"
#include "arch/x86_64/smp.h"

struct boot_info;

/* BAD_FORMAT: boot_info isn't one. NOT_SUPPORTED: the processor lacks something; a line says what. */
enum status arch_early(const struct boot_info *info) must_check;
/* As paging_build(); the source serves zeroed pages out of memory in the map. */
enum status arch_paging(const struct boot_info *info, hpa_t trampoline, page_source source, void *context) must_check;
/* NOT_SUPPORTED: no local APIC. NO_MEMORY. */
enum status arch_platform(const struct boot_info *info) must_check;
/* Prints what the log holds, then a line that it is safe to turn the machine off; stops this CPU for ever. */
_Noreturn void arch_refuse(void);
