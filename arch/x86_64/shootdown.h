/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host translations that must be gone from every CPU. Interrupts are off nearly always, and a CPU that waits for a
 * lock would never answer one; so the request is an NMI, whose handler flushes and says so. It may come anywhere.
 */
#pragma once

/* Everything the calling CPU keeps of the host's tables, global entries too. */
void flush_all_translations(void);
/* Returns when every CPU that is up has flushed. Any lock may be held. */
void shootdown(void);
/* The NMI handler's part. */
void shootdown_answer(void);
