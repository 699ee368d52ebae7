/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which host CPU is this? CPUs are numbered 0..cpu_count()-1 in the order in which they
 * came up; the boot processor is 0. Kernel code is never moved to another CPU.
 * Unit tests supply their own versions (one number per thread).
 */
#ifndef ARCH_PERCPU_H
#define ARCH_PERCPU_H

#define MAX_CPUS 256u

unsigned cpu_index(void);
unsigned cpu_count(void);

#endif
