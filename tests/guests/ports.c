/* SPDX-License-Identifier: Apache-2.0 */
/* Port exits: every width, string forms with a count and both directions, ports where nobody is. */
#include "guest.h"

#define NOBODY 0x5554

static void check_nobody(void)
{
	check_equal(in8(NOBODY), 0xff);
	check_equal(in16(NOBODY), 0xffff);
	check_equal(in32(NOBODY), 0xffffffff);
	out8(NOBODY, 1);
	out16(NOBODY, 2);
	out32(NOBODY, 3);
	check_equal(in32(0xcfc), 0xffffffff);
}

static void read_string(void *to, uint16_t port, unsigned count, unsigned size)
{
	if (size == 1)
		__asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(port) : "memory");
	else if (size == 2)
		__asm__ volatile("rep insw" : "+D"(to), "+c"(count) : "d"(port) : "memory");
	else
		__asm__ volatile("rep insl" : "+D"(to), "+c"(count) : "d"(port) : "memory");
	check_equal(count, 0);
}

static void check_strings(void)
{
	static uint8_t bytes[8192];
	static const char text[] = "written by outsb\n";
	const char *from = text;
	unsigned count = sizeof(text) - 1;
	uint8_t *down = bytes + 7;

	memset(bytes, 0, sizeof(bytes));
	read_string(bytes + 4093, 0xe9, 6, 1); /* across a page */
	for (unsigned i = 4093; i < 4099; i++)
		check_equal(bytes[i], 0xe9);
	check_equal(bytes[4099], 0);
	read_string(bytes, NOBODY, 3, 4);
	check_equal(bytes[11], 0xff);
	check_equal(bytes[12], 0);
	read_string(bytes + 16, NOBODY, 3, 2);
	check_equal(bytes[21], 0xff);
	check_equal(bytes[22], 0);
	memset(bytes, 0, 16);
	count = 4;
	__asm__ volatile("std; rep insb; cld" : "+D"(down), "+c"(count) : "d"(0xe9) : "memory");
	check(down == bytes + 3 && bytes[3] == 0 && bytes[4] == 0xe9 && bytes[7] == 0xe9 && bytes[8] == 0);
	count = sizeof(text) - 1;
	__asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(0xe9) : "memory");
	check(count == 0 && from == text + sizeof(text) - 1);
	count = 0;
	read_string(bytes, 0xe9, 0, 1); /* nothing happens */
	check_equal(bytes[0], 0);
}

static void check_fw_cfg(void)
{
	char signature[5] = { 0 };

	out16(0x510, 0);
	read_string(signature, 0x511, 4, 1);
	check(!memcmp(signature, "QEMU", 4));
}

static unsigned pit_count(void)
{
	unsigned low;

	out8(0x43, 0);
	low = in8(0x40);
	return low | (unsigned)in8(0x40) << 8;
}

static void check_pit(void)
{
	unsigned first, tries = 0;

	pit_start(2, 0);
	first = pit_count();
	while (pit_count() == first && tries < 1000000)
		tries++;
	check(tries < 1000000);
}

static void check_cmos(void)
{
	out8(0x70, 0x0f);
	out8(0x71, 0x5a);
	out8(0x70, 0x0f);
	check_equal(in8(0x71), 0x5a);
}

void guest_main(void)
{
	check_nobody();
	check_strings();
	check_fw_cfg();
	check_pit();
	check_cmos();
	pic_init();
	check_equal(in8(0x21), 0xff);
	check_equal(in16(0x20) >> 8, 0xff); /* two devices' bytes in one access */
}
