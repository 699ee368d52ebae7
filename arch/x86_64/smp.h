/* SPDX-License-Identifier: Apache-2.0 */
/* Start of the other CPUs. Intel SDM vol. 3 section 9.4. */
#pragma once

#include "arch/x86_64/address.h"
#include "lib/status.h"

struct boot_info;

#define TRAMPOLINE_PAGES 4u /* code, and three table pages that map it where it lies */
#define TRAMPOLINE_SIZE (TRAMPOLINE_PAGES * PAGE_SIZE)

/*
 * A place for the trampoline in the firmware's map: TRAMPOLINE_SIZE bytes of usable memory in [64 KiB, 640 KiB),
 * else in
 * [4 KiB, 64 KiB). HPA_NONE: no such place. The caller keeps it from other use as long as CPUs are started.
 */
hpa_t smp_find_trampoline(const struct boot_info *info);
/*
 * Must be called before paging_switch() (5-level firmware needs it) and smp_start(). Pages below 640 KiB, or
 * HPA_NONE.
 */
void smp_set_trampoline(hpa_t where);

/* How many CPUs the firmware names, as far as they can be used; at least 1. After arch_platform(). */
unsigned smp_count(const struct boot_info *info);

/*
 * Starts every CPU that the firmware names (MP services' list, else the MADT) and waits until each has called
 * ap_main or is
 * given up on: bounded, about 2 s at worst. ap_open may refuse, and says why: that CPU keeps its number, answers flushes
 * and runs nothing (cpu_is_open()). ap_main never returns. A CPU that doesn't arrive is logged and left out.
 * NOT_FOUND: no trampoline; NO_MEMORY: some CPUs were left out. In both cases the machine works with the CPUs it has.
 */
enum status smp_start(const struct boot_info *info, bool (*ap_open)(void), void (*ap_main)(void)) must_check;

/* From 5-level to 4-level paging, onto the kernel's tables; needs root below 4 GiB no more than the trampoline does. */
void smp_leave_la57(hpa_t root);
