/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machine checks: the hardware's own errors, told by an exception and by banks of registers. Intel SDM vol. 3 chapter 16;
 * AMD APM vol. 2 chapter 9.
 */
#pragma once

/*
 * Calling CPU, before CR4.MCE is set: all banks report, what they still hold is told (what led to the last restart, often) and
 * cleared.
 */
void machine_check_open(void);
/* The exception in the host itself: returns when the host can go on, else panics with what the banks say. */
void machine_check_in_host(void);
