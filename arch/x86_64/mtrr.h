/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory types by MTRR, as the firmware set them. host_memory_type() in host.h is the use. Intel SDM vol. 3
 * section 12.11.
 */
#ifndef ARCH_MTRR_H
#define ARCH_MTRR_H

#include <stdbool.h>

/* Boot CPU, after traps_load(). */
void mtrr_init(void);
/*
 * Any other CPU, before it does anything else: takes over the boot CPU's MTRRs where its own differ (firmware that
 * forgot
 * it, or an emulator that resets them at INIT). True when they differed.
 */
bool mtrr_adopt(void);

#endif
