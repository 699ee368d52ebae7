/* SPDX-License-Identifier: Apache-2.0 */
/* One time on all CPUs: a CPU that comes up takes over the boot CPU's time stamp counter. */
#pragma once

/* Boot CPU, before others start: what they are to take over. */
void tsc_sync_open(void);
/* Boot CPU, again and again while others come up: tells the time to who asks. */
void tsc_sync_answer(void);
/* Any other CPU, once, while the boot CPU answers; at most about 20 ms, also when it doesn't. */
void tsc_sync_adopt(void);
