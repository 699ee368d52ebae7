/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Executes from data: from pages that were read first (a zero page behind them), from fresh ones, across a page's end,
 * and from a page of zeros, which are an instruction too.
 */
#include "guest.h"

typedef uint32_t (*function)(void);

/* mov $value, %eax; ret */
static function write_code(uint32_t where, uint32_t value)
{
	uint8_t *code = (uint8_t *)where;

	code[0] = 0xb8;
	memcpy(code + 1, &value, 4);
	code[5] = 0xc3;
	return (function)code;
}

/* Zeros are add %al, (%eax): run two of them, then what stands behind. */
static void run_zeros(uint32_t page)
{
	static uint8_t target;
	uint8_t *code = (uint8_t *)page;
	uint8_t *ret = code + PAGE; /* the next page is the only one written */

	ret[0] = 0xc3;
	target = 1;
	/* The last four bytes of the zero page, then RET in the next. */
	__asm__ volatile("call *%1" : : "a"(&target), "r"(code + PAGE - 4) : "memory");
	check_equal(target, (uint8_t)((1 + (uint8_t)(uint32_t)&target) + (uint8_t)(uint32_t)&target));
}

void guest_main(void)
{
	uint32_t area = 32 * MIB;

	for (unsigned i = 0; i < 64; i++) {
		uint32_t where = area + i * 5 * PAGE + (i & 1 ? PAGE - 3 : 0x100);

		if (i & 2)
			check_equal(read32(where & ~3u), 0);
		check_equal(write_code(where, 0x1000 + i)(), 0x1000 + i);
	}
	run_zeros(40 * MIB);
	run_zeros(44 * MIB);
}
