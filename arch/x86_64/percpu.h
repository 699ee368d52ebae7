/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which host CPU is this? CPUs are numbered 0..cpu_count()-1 in the order in which they
 * came up; the boot processor is 0. Kernel code is never moved to another CPU.
 * Unit tests supply their own versions (one number per thread).
 */
#pragma once

#include <stdbool.h>

#define MAX_CPUS 256u

unsigned cpu_index(void);
unsigned cpu_count(void);
/* Does this CPU run what it is given? One that was left out when it came up has a number, but doesn't. */
bool cpu_is_open(unsigned index);
