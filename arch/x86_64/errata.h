/* SPDX-License-Identifier: Apache-2.0 */
/* Processors that do otherwise than their manual says. */
#ifndef ARCH_ERRATA_H
#define ARCH_ERRATA_H

#include <stdbool.h>

/* The APIC timer's TSC-deadline mode may lose its interrupt here, with the microcode there is. Boot CPU. */
bool errata_tsc_deadline(void);
/* Calling CPU: switches off what would make it unreliable. */
void errata_mend_cpu(void);

#endif
