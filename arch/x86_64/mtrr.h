/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory types by MTRR, as the firmware set them. host_memory_type() in host.h is the use. Intel SDM vol. 3
 * section 12.11.
 */
#pragma once

#include <stdbool.h>

/* Boot CPU, after traps_load(), and before memory is chosen. */
void mtrr_init(void);
/*
 * False: the firmware left them off on a real processor, so all memory is uncached (section 12.11.2.1). In a virtual machine that means
 * nothing: the hypervisor's tables decide, and memory is taken for write-back.
 */
bool mtrr_on(void);
/*
 * Any other CPU, before it does anything else: takes over the boot CPU's MTRRs where its own differ (firmware that
 * forgot
 * it, or an emulator that resets them at INIT). True when they differed.
 */
bool mtrr_adopt(void);
