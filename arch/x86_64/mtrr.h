/* SPDX-License-Identifier: Apache-2.0 */
/* Memory types by MTRR, as the firmware set them. host_memory_type() in host.h is the use. Intel SDM vol. 3 section 12.11. */
#ifndef ARCH_MTRR_H
#define ARCH_MTRR_H

/* Boot CPU, after traps_load(). */
void mtrr_init(void);
/* Any other CPU: a line in the log when its MTRRs differ from the boot CPU's. */
void mtrr_compare(void);

#endif
