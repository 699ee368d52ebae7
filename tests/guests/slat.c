/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Second-level entries of every kind against the processor: each combination of rights, memory types and size, each
 * single bit, at every level, read, written and executed through. The hypervisor says what it makes of the entry, and what
 * came of the access (vm/vcpu/test_call.h).
 *
 * "level=" is the level of the leaf that the configuration leads to: 0 with large_pages = off, else 1.
 */
#include "guest.h"

#include "../../vm/vcpu/test_call.h"

#define TARGET (32 * MIB) /* a block of its own */
#define BITS_HIGH 0x8000000000000000ull
#define TRIES 100u

void slat_try(struct test_slat *block, uint32_t address, uint32_t access, uint32_t amd);
extern char slat_code[], slat_code_end[];

static const char *const verdict_names[] = {
	"fine", "violation", "misconfigured", "refused", "absent", "again", "other"
};
static const char *const access_names[] = { "read", "write", "execute" };
static uint32_t counts[TEST_SLAT_OTHER + 1], cases;
static bool amd, bochs;

/* Bochs: bit 12 of a leaf of 2 MiB isn't reserved. On AMD both: nor is bit 8 of a table pointer above 2 MiB. */
static bool odd(const struct test_slat *t)
{
	if (amd && t->level >= 2 && (t->value & ~t->old) == 0x100)
		return t->told == TEST_SLAT_MISCONFIGURED && t->seen == TEST_SLAT_FINE;
	return bochs && t->level == 1 && (t->value & 0x80) && (t->value ^ t->old) == 0x1000 &&
	       t->seen == TEST_SLAT_FINE;
}

static void one_access(uint32_t level, uint64_t mask, uint64_t bits, uint32_t access)
{
	static struct test_slat t __attribute__((aligned(64)));

	for (uint32_t i = 0; i < TRIES; i++) {
		t = (struct test_slat){ .where = TARGET, .mask = mask, .bits = bits, .level = level };
		t.access = 1u << access;
		slat_try(&t, TARGET, access, amd);
		if (t.seen != TEST_SLAT_AGAIN)
			break;
	}
	cases++;
	if (t.seen <= TEST_SLAT_OTHER)
		counts[t.seen]++;
	if ((t.seen == t.told && t.seen < TEST_SLAT_ABSENT) || odd(&t))
		return;
	failures++;
	if (failures < 20)
		print("FAILED level %u, %s, 0x%llx instead of 0x%llx: told %s, seen %s (exit 0x%llx)\n", level,
		      access_names[access], t.value, t.old, verdict_names[t.told], verdict_names[t.seen], t.exit);
}

static void all_accesses(uint32_t level, uint64_t mask, uint64_t bits)
{
	for (uint32_t access = 0; access < 3; access++)
		one_access(level, mask, bits, access);
}

/* EPT: rights in bits 2:0, type in 5:3. NPT: P, W, U and NX; PWT, PCD. All combinations, with and without the size bit. */
static void combinations(uint32_t level)
{
	uint64_t rights = amd ? BITS_HIGH | 7 : 7, mask = rights | (amd ? 0x98 : 0xb8);

	for (uint32_t i = 0; i < 128; i++) {
		uint64_t bits = (i & (amd ? 0x1f : 0x3f)) | (uint64_t)(i >> 6) << 7;

		if (amd)
			bits |= (uint64_t)(i >> 5 & 1) << 63;
		all_accesses(level, mask, bits);
	}
}

static void single_bits(uint32_t level)
{
	for (uint32_t bit = 0; bit < 64; bit++)
		for (uint32_t value = 0; value < 2; value++)
			all_accesses(level, 1ull << bit, (uint64_t)value << bit);
}

void guest_main(void)
{
	uint32_t leaf = option_number("level=", 0);

	amd = cpuid(0, 0).ecx == 0x444d4163; /* AuthenticAMD */
	bochs = option("bochs");
	memcpy((void *)TARGET, slat_code, (size_t)(slat_code_end - slat_code));
	for (uint32_t level = leaf; level < 4; level++) {
		memset(counts, 0, sizeof(counts));
		cases = 0;
		combinations(level);
		single_bits(level);
		print("level %u: %u cases", level, cases);
		for (uint32_t i = 0; i <= TEST_SLAT_OTHER; i++)
			print(", %u %s", counts[i], verdict_names[i]);
		print("\n");
		check(counts[TEST_SLAT_FINE] && counts[TEST_SLAT_VIOLATION] && counts[TEST_SLAT_MISCONFIGURED]);
	}
}
