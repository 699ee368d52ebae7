/* SPDX-License-Identifier: Apache-2.0 */
/* Processors that do otherwise than their manual says. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The APIC timer's TSC-deadline mode may lose its interrupt here, with the microcode there is. Boot CPU. */
bool errata_tsc_deadline(void);
/* Calling CPU: switches off what would make it unreliable, and on what would leave it open. */
void errata_mend_cpu(void);
/* Virtual VMLOAD and VMSAVE, though CPUID tells of them, may restart the machine here. Calling CPU. */
bool errata_virtual_load_save(void);
/* Calling CPU: the family as CPUID has it, extended family included. */
unsigned errata_family(void);
/* Calling CPU: IA32_BIOS_SIGN_ID as it reads, Intel's in the upper half; 0: none, as on emulators. SDM vol. 3 section 10.11.7.1. */
uint64_t errata_microcode(void);
