/* SPDX-License-Identifier: Apache-2.0 */
/* Which processors' errata are met: by family, model, stepping and microcode. */
#define ARCH_CPU_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arch/x86_64/features.h"
#include "arch/x86_64/registers.h"

struct cpuid_result {
	uint32_t eax, ebx, ecx, edx;
};

struct features features;
static uint32_t signature, microcode_is;
static uint64_t pending;
static bool has_register;

static struct cpuid_result cpuid(uint32_t leaf, uint32_t subleaf)
{
	return (struct cpuid_result){ .eax = signature };
}
bool rdmsr_safe(uint32_t msr, uint64_t *value)
{
	*value = msr == 0x8b ? (uint64_t)microcode_is << 32 : pending;
	return has_register && (msr == 0x8b || msr == 0xc0010055);
}
bool wrmsr_safe(uint32_t msr, uint64_t value)
{
	assert_true(msr == 0x8b || msr == 0xc0010055);
	if (has_register && msr != 0x8b)
		pending = value;
	return has_register;
}

#include "arch/x86_64/errata.c"

static bool broken(uint32_t of, uint32_t revision)
{
	signature = of;
	microcode_is = revision;
	return errata_tsc_deadline();
}

static void test_tsc_deadline(void **state)
{
	has_register = true;
	features = (struct features){ 0 };
	assert_true(broken(0x306c3, 0x21));
	assert_false(broken(0x306c3, 0x22));
	assert_true(broken(0x506e3, 0xb1)); /* Skylake */
	assert_false(broken(0x506e3, 0xf0));
	assert_true(broken(0x306f2, 0x39)); /* Haswell EP, but not its other steppings */
	assert_false(broken(0x306f3, 0x39));
	assert_true(broken(0x50654, 0x02000013));
	assert_false(broken(0x50657, 0x02000013)); /* Cascade Lake */
	assert_false(broken(0xa0671, 1));
	assert_false(broken(0x306c3, 0)); /* an emulator's */
	features.hypervisor = true;
	assert_false(broken(0x306c3, 0x21));
	features = (struct features){ .amd = true };
	assert_false(broken(0x306c3, 0x21));
	features.amd = has_register = false;
	assert_false(broken(0x306c3, 0x21));
}

static uint64_t mended(bool amd, uint32_t of)
{
	features = (struct features){ .amd = amd };
	signature = of;
	pending = BIT(28) | BIT(27) | BIT(3);
	errata_mend_cpu();
	return pending;
}

static void test_virtual_load_save(void **state)
{
	static const struct {
		uint32_t signature;
		bool broken;
	} rows[] = {
		{ 0x00a10f11, false }, { 0x00a10f80, true },  { 0x00a10ff0, true },  { 0x00a60f12, true },
		{ 0x00a70f80, true },  { 0x00a00f11, false }, { 0x00aa0f02, false }, { 0x00b10f80, false },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		signature = rows[i].signature;
		assert_int_equal(errata_virtual_load_save(), rows[i].broken);
	}
}

static void test_c1e(void **state)
{
	has_register = true;
	assert_int_equal(mended(true, 0x00100f42), BIT(3));
	assert_int_equal(mended(true, 0x00040f82), BIT(3));
	assert_int_equal(mended(true, 0x00800f12), BIT(28) | BIT(27) | BIT(3)); /* Zen */
	assert_int_equal(mended(false, 0x000306c3), BIT(28) | BIT(27) | BIT(3));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_tsc_deadline), cmocka_unit_test(test_c1e),
					    cmocka_unit_test(test_virtual_load_save) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
