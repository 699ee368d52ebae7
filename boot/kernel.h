/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's entry from arch's assembly, and the page that says why it can't start. */
#pragma once

#include "boot/boot_info.h"

#define QUIRE_VERSION "0.1"

_Noreturn void kernel_main(struct boot_info *boot);
/* Prints what is missing and what to change on every console, and stops. Never a reset loop. */
_Noreturn void refuse(const char *missing, const char *change);
/* kernel_memory.c: the host's own page tables over the firmware's memory; then mm/'s and pgm/'s start. */
void open_memory(const struct boot_info *info);
void open_mm(void);
