/* SPDX-License-Identifier: Apache-2.0 */
// sources: vmx/convert.c
/* Events both ways, and segments against the entry checks of Intel SDM vol. 3 section 27.3.1.2 as a property. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86_64/registers.h"
#include "vmx/convert.h"
#include "vmx/vmcs.h"

static void words(void **state)
{
	static const struct {
		struct hv_event event;
		bool protected_mode;
		uint32_t word;
	} table[] = {
		{ { .kind = EVENT_NONE, .vector = 3 }, true, 0 },
		{ { .kind = EVENT_INTERRUPT, .vector = 0x31 }, true, 0x80000031 },
		{ { .kind = EVENT_NMI }, true, 0x80000202 },
		{ { .kind = EVENT_EXCEPTION, .vector = 14, .has_error_code = true, .error_code = 2 },
		  true,
		  0x80000b0e },
		{ { .kind = EVENT_EXCEPTION, .vector = 13, .has_error_code = true }, false, 0x8000030d },
		/* Those with an error code get one even if nobody said so: entry would refuse the word without. */
		{ { .kind = EVENT_EXCEPTION, .vector = 13 }, true, 0x80000b0d },
		{ { .kind = EVENT_EXCEPTION, .vector = 6, .has_error_code = true }, true, 0x80000306 },
		{ { .kind = EVENT_EXCEPTION, .vector = 200, .has_error_code = true }, true, 0x800003c8 },
		{ { .kind = EVENT_EXCEPTION, .vector = 3, .soft = true, .length = 1 }, true, 0x80000603 },
		{ { .kind = EVENT_EXCEPTION, .vector = 1, .soft = true, .length = 1 }, true, 0x80000501 },
		{ { .kind = EVENT_SOFT_INTERRUPT, .vector = 0x80, .length = 2 }, true, 0x80000480 },
		{ { .kind = 99, .vector = 1 }, true, 0 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(vmx_event_word(&table[i].event, table[i].protected_mode), table[i].word);
	assert_true(vmx_event_has_length(0x80000480) && vmx_event_has_length(0x80000603) &&
		    vmx_event_has_length(0x80000501));
	assert_false(vmx_event_has_length(0x80000b0e) || vmx_event_has_length(0x80000031) ||
		     vmx_event_has_length(0x80000202) || vmx_event_has_length(0x80000700));
}

/* What an exit broke off comes again as the same word. */
static void events_come_again(void **state)
{
	static const uint32_t all[] = { 0x80000031, 0x80000202, 0x80000b0e, 0x80000306,
					0x80000603, 0x80000501, 0x80000480, 0x80000b08 };

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		struct hv_event event = vmx_event_from_word(all[i], 0x1234, 2);

		assert_int_equal(vmx_event_word(&event, true), all[i]);
		assert_int_equal(event.error_code, all[i] & 0x800 ? 0x1234 : 0);
		assert_int_equal(event.length, vmx_event_has_length(all[i]) ? 2 : 0);
	}
	assert_int_equal(vmx_event_from_word(0x7fffffff, 1, 1).kind, EVENT_NONE);
}

static void known_segments(void **state)
{
	struct segment real = { 0xf0000, 0xffff, 0xf000, 0x93 };
	struct segment flat = { 0, 0xffffffff, 0x10, 0xc09a }; /* accessed bit not set by whoever made it */
	struct segment null = { 0, 0, 0, 0x0060 };
	struct vmx_segment raw = vmx_segment_pack(SEG_CS, &real, false);

	assert_true(raw.rights == 0x93 && raw.limit == 0xffff && raw.base == 0xf0000 && raw.selector == 0xf000);
	raw = vmx_segment_pack(SEG_CS, &flat, false);
	assert_int_equal(raw.rights, 0xc09b);
	raw = vmx_segment_pack(SEG_SS, &null, true);
	assert_int_equal(raw.rights, 0x10060); /* CPL 3 stays readable */
	assert_int_equal(SEG_ATTR_DPL(vmx_segment_unpack(&raw).attributes), 3);
	raw.rights = 0x1c0f3; /* a processor may leave anything behind in an unusable one */
	assert_int_equal(vmx_segment_unpack(&raw).attributes & SEG_ATTR_PRESENT, 0);
}

static void task_registers(void **state)
{
	struct segment tss16 = { 0, 0x2b, 8, 0x81 }, tss32 = { 0, 0x67, 8, 0x89 }, none = { 0 };

	assert_int_equal(vmx_segment_pack(SEG_TR, &tss16, false).rights, 0x83);
	assert_int_equal(vmx_segment_pack(SEG_TR, &tss16, true).rights, 0x8b);
	assert_int_equal(vmx_segment_pack(SEG_TR, &tss32, false).rights, 0x8b);
	assert_int_equal(vmx_segment_pack(SEG_TR, &none, false).rights, 0x8b);
	assert_int_equal(vmx_segment_pack(SEG_LDTR, &none, false).rights & RIGHTS_UNUSABLE, RIGHTS_UNUSABLE);
	tss16.attributes = 0x92;
	assert_int_equal(vmx_segment_pack(SEG_LDTR, &tss16, false).rights, 0x82);
}

/* The checks that don't compare registers with one another. */
static bool entry_accepts(enum segment_name name, const struct vmx_segment *s, bool long_mode)
{
	uint32_t type = s->rights & 0xf;

	if (s->rights & RIGHTS_UNUSABLE)
		return name != SEG_TR && name != SEG_CS;
	if ((s->rights & 0xfffe0f00) || !(s->rights & 0x80))
		return false;
	if (!(s->rights & SEG_ATTR_G) ? s->limit >> 20 : (s->limit & 0xfff) != 0xfff)
		return false;
	if (name == SEG_TR)
		return !(s->rights & 0x10) && (type == 11 || (!long_mode && type == 3));
	if (name == SEG_LDTR)
		return !(s->rights & 0x10) && type == 2;
	return (s->rights & 0x10) && (type & 1);
}

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void whatever_stands_in_it_passes_the_checks(void **state)
{
	uint64_t seed = 0x5eed;

	for (unsigned i = 0; i < 200000; i++) {
		uint64_t r = next_random(&seed);
		enum segment_name name = r % SEG_COUNT;
		bool long_mode = r >> 60 & 1;
		struct segment segment = { next_random(&seed), (uint32_t)next_random(&seed) >> (r >> 8) % 32,
					   (uint16_t)(r >> 16), (uint16_t)(r >> 32) };
		struct vmx_segment raw = vmx_segment_pack(name, &segment, long_mode);
		struct segment back = vmx_segment_unpack(&raw);
		struct vmx_segment again = vmx_segment_pack(name, &back, long_mode);

		if (entry_accepts(name, &raw, long_mode) && raw.rights == again.rights && raw.limit == again.limit &&
		    raw.base == segment.base && raw.selector == segment.selector)
			continue;
		printf("round %u: segment %d long %d limit %x attributes %x gives limit %x rights %x, then %x\n", i,
		       name, long_mode, segment.limit, segment.attributes, raw.limit, raw.rights, again.rights);
		fail();
	}
}

/* A guest with five levels keeps its kernel's data at 0xff11..., which is no address of 48 bits. */
static void msr_values(void **state)
{
	assert_true(vmx_msr_value(UINT64_C(0xff11000012345678), UINT64_MAX, 57) == UINT64_C(0xff11000012345678));
	assert_true(vmx_msr_value(UINT64_C(0xff11000012345678), UINT64_MAX, 48) == UINT64_C(0x12345678));
	assert_true(vmx_msr_value(UINT64_C(0xffff880012345678), UINT64_MAX, 48) == UINT64_C(0xffff880012345678));
	assert_true(vmx_msr_value(UINT64_C(0x8000000000000000), UINT64_MAX, 57) == 0);
	assert_true(vmx_msr_value(UINT64_C(0x1ffffffff), BITS(31, 0), 0) == 0xffffffff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words),
		cmocka_unit_test(msr_values),
		cmocka_unit_test(events_come_again),
		cmocka_unit_test(known_segments),
		cmocka_unit_test(task_registers),
		cmocka_unit_test(whatever_stands_in_it_passes_the_checks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
