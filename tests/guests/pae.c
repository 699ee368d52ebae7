/* SPDX-License-Identifier: Apache-2.0 */
/* Stays in PAE paging for the monitor's `walk`: 4 GiB as they are, but the 2 MiB at 1 GiB, which are those at 4 MiB. */
#include "guest.h"

#define ENTRY 0x3u /* present, writable */
#define LARGE 0x80u
#define CR4_PAE 0x20u
#define CR0_PG 0x80000000u

static uint64_t directory[4][512] __attribute__((aligned(4096)));
static uint64_t pointers[4] __attribute__((aligned(32)));

void guest_main(void)
{
	for (uint32_t i = 0; i < 4; i++) {
		pointers[i] = (uint32_t)directory[i] | 1;
		for (uint32_t e = 0; e < 512; e++)
			directory[i][e] = (i << 30 | e << 21) | LARGE | ENTRY;
	}
	directory[1][0] = 4 * MIB | LARGE | ENTRY;
	WRITE_CR(3, (uint32_t)pointers);
	WRITE_CR(4, READ_CR(4) | CR4_PAE);
	WRITE_CR(0, READ_CR(0) | CR0_PG);
	check_equal(read32(0x40000000), read32(4 * MIB));
	print(failures ? "wrong\n" : "paging\n");
	for (;;)
		__asm__ volatile("cli; hlt");
}
