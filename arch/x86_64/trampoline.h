/* SPDX-License-Identifier: Apache-2.0 */
/* The copy of trampoline.asm below 1 MiB, with its own small page tables. Private to the start of CPUs. */
#pragma once

#include "arch/x86_64/address.h"

/* HPA_NONE: there is none. */
hpa_t trampoline_place(void);
/*
 * Copies the code and fills in its parameters; root is the kernel's. Its tables map the first 2 MiB as
 * they are and the upper half like the kernel's.
 */
void trampoline_prepare(hpa_t root);
