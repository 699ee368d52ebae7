/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/emulate/*.c arch/x86_64/fpu.c
/*
 * Vector and MMX moves against the processor that runs the test: each opcode in each encoding that it has, random
 * registers, displacements and contents; then all vector and x87 registers and memory must be the same, and what faults
 * there faults here. The register file is the processor's own XSAVE area, by arch/x86_64/fpu.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/registers.h"
#include "vm/emulate/emulate.h"

#define AREA 4096u
#define MEMORY 4096u
#define MIDDLE (MEMORY / 2)
#define ROUNDS 60u

const struct hv_ops *hv;
struct features features = { .xsave = true, .restores_fp_pointers = true };

static uint8_t native_area[AREA] __attribute__((aligned(64))), area[AREA] __attribute__((aligned(64)));
static uint8_t *code, *memory, shadow[MEMORY];
static sigjmp_buf after_fault;
static uint64_t seed = 88172645463325252u;

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void on_signal(int number)
{
	siglongjmp(after_fault, number);
}

static void fill(void *to, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((uint8_t *)to)[i] = (uint8_t)(next_random() >> 20);
}

/* The signal that the instruction raised, or 0. */
static int run_native(void)
{
	uint64_t mask = host_xcr0();
	int number = sigsetjmp(after_fault, 1);

	if (number == 0)
		__asm__ volatile("xrstor64 (%2)\n	call *%3\n	xsave64 (%2)"
				 :
				 : "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)), "b"(native_area), "S"(code),
				   "D"(memory + MIDDLE)
				 : "memory", "cc");
	/* The compiler's own use of the registers begins from a clean state. */
	__asm__ volatile("fninit\n	vzeroupper" : : : "memory");
	return number;
}

static uint8_t *place(gva_t where, unsigned size)
{
	uint64_t base = (uint64_t)(uintptr_t)memory;

	return where.v >= base && where.v + size <= base + MEMORY ? shadow + (where.v - base) : NULL;
}

static enum status read_memory(void *context, gva_t where, void *to, unsigned size, unsigned access, bool system,
			       struct hv_event *fault, uint64_t *fault_address)
{
	const void *from = access == ACCESS_EXECUTE ? (const void *)(uintptr_t)where.v : place(where, size);

	if (!from)
		return BAD_ADDRESS;
	memcpy(to, from, size);
	return OK;
}

static enum status write_memory(void *context, gva_t where, const void *from, unsigned size, bool system,
				struct hv_event *fault, uint64_t *fault_address)
{
	if (!place(where, size))
		return BAD_ADDRESS;
	memcpy(place(where, size), from, size);
	return OK;
}

static void vector_register(void *context, unsigned number, bool write, uint8_t value[VECTOR_MAX])
{
	host_fpu_vector(area, number, write, value);
}

static enum emulate_result run_emulated(unsigned length)
{
	struct emulate_env env = { .read = read_memory, .write = write_memory, .vector = vector_register };
	struct hv_vcpu vcpu = { .valid = REGS_ALL,
				.rip = (uint64_t)(uintptr_t)code,
				.rflags = 2,
				.cr0 = CR0_PE | CR0_PG,
				.efer = EFER_LME | EFER_LMA };
	enum emulate_result result;

	vcpu.segment[SEG_CS].attributes = SEG_ATTR_PRESENT | SEG_ATTR_S | SEG_ATTR_L | 0xb;
	vcpu.segment[SEG_SS].attributes = SEG_ATTR_PRESENT | SEG_ATTR_S | SEG_ATTR_DB | 3;
	vcpu.gpr[GPR_RDI] = (uint64_t)(uintptr_t)(memory + MIDDLE);
	result = emulate_instruction(&vcpu, &env);
	if (result == EMULATE_FAULT)
		assert_int_equal(vcpu.inject.vector, VECTOR_GP);
	if (result == EMULATE_DONE)
		assert_int_equal(vcpu.rip, (uint64_t)(uintptr_t)code + length);
	return result;
}

/* pp as VEX encodes it: none, 66, F3, F2. newer: it has VEX forms; two_sources: vvvv is one. */
static const struct form {
	uint8_t map, opcode, pp;
	bool newer, evex, two_sources;
} forms[] = {
	{ 1, 0x10, 0, 1, 1, 0 }, { 1, 0x10, 1, 1, 1, 0 }, { 1, 0x10, 2, 1, 1, 0 }, { 1, 0x10, 3, 1, 1, 0 },
	{ 1, 0x11, 0, 1, 1, 0 }, { 1, 0x11, 1, 1, 1, 0 }, { 1, 0x11, 2, 1, 1, 0 }, { 1, 0x11, 3, 1, 1, 0 },
	{ 1, 0x12, 0, 1, 1, 1 }, { 1, 0x12, 1, 1, 1, 1 }, { 1, 0x13, 0, 1, 1, 0 }, { 1, 0x13, 1, 1, 1, 0 },
	{ 1, 0x16, 0, 1, 1, 1 }, { 1, 0x16, 1, 1, 1, 1 }, { 1, 0x17, 0, 1, 1, 0 }, { 1, 0x17, 1, 1, 1, 0 },
	{ 1, 0x28, 0, 1, 1, 0 }, { 1, 0x28, 1, 1, 1, 0 }, { 1, 0x29, 0, 1, 1, 0 }, { 1, 0x29, 1, 1, 1, 0 },
	{ 1, 0x2b, 0, 1, 1, 0 }, { 1, 0x2b, 1, 1, 1, 0 }, { 1, 0x6e, 0, 0, 0, 0 }, { 1, 0x6e, 1, 1, 1, 0 },
	{ 1, 0x7e, 0, 0, 0, 0 }, { 1, 0x7e, 1, 1, 1, 0 }, { 1, 0x7e, 2, 1, 1, 0 }, { 1, 0x6f, 0, 0, 0, 0 },
	{ 1, 0x6f, 1, 1, 1, 0 }, { 1, 0x6f, 2, 1, 1, 0 }, { 1, 0x7f, 0, 0, 0, 0 }, { 1, 0x7f, 1, 1, 1, 0 },
	{ 1, 0x7f, 2, 1, 1, 0 }, { 1, 0xd6, 1, 1, 1, 0 }, { 1, 0xe7, 0, 0, 0, 0 }, { 1, 0xe7, 1, 1, 1, 0 },
	{ 1, 0xf0, 3, 1, 0, 0 }, { 2, 0x2a, 1, 1, 1, 0 },
};

enum shape { LEGACY, VEX, EVEX };

/* With ModRM of [rdi + disp8]; returns the length. */
static unsigned assemble(const struct form *f, enum shape shape)
{
	static const uint8_t prefix[4] = { 0, 0x66, 0xf3, 0xf2 };
	unsigned reg = next_random() >> 30 & (shape == EVEX ? 31 : 15), wide = next_random() >> 31 & 1;
	unsigned vvvv = f->two_sources ? next_random() >> 30 & (shape == EVEX ? 31 : 15) : 0;
	unsigned length = (unsigned)(next_random() >> 33) % (shape == EVEX ? 3 : 2);
	uint8_t *at = code;

	if (shape == LEGACY) {
		if (f->pp)
			*at++ = prefix[f->pp];
		*at++ = (uint8_t)(0x40 | wide << 3 | (reg & 8) >> 1);
		*at++ = 0x0f;
		if (f->map == 2)
			*at++ = 0x38;
	} else if (shape == VEX && f->map == 1 && !wide) {
		*at++ = 0xc5;
		*at++ = (uint8_t)((~reg & 8) << 4 | (~vvvv & 15) << 3 | length << 2 | f->pp);
	} else if (shape == VEX) {
		*at++ = 0xc4;
		*at++ = (uint8_t)((~reg & 8) << 4 | 0x60 | f->map);
		*at++ = (uint8_t)(wide << 7 | (~vvvv & 15) << 3 | length << 2 | f->pp);
	} else {
		*at++ = 0x62;
		*at++ = (uint8_t)((~reg & 8) << 4 | 0x60 | (~reg & 16) | f->map);
		*at++ = (uint8_t)(wide << 7 | (~vvvv & 15) << 3 | 4 | f->pp);
		*at++ = (uint8_t)(length << 5 | (~vvvv & 16) >> 1);
	}
	*at++ = f->opcode;
	*at++ = (uint8_t)(0x47 | (reg & 7) << 3);
	*at++ = (uint8_t)(shape == EVEX || next_random() >> 40 & 1 ? next_random() >> 50 & 15 : next_random() >> 51);
	at[0] = 0xc3;
	return (unsigned)(at - code);
}

static void random_state(void)
{
	uint64_t states = host_xcr0() & ~UINT64_C(0x220);

	host_fpu_init(area);
	fill(area + 32, host_fpu_size() - 32 < AREA ? 384 : 0);
	for (unsigned i = 0; i < 32; i++) {
		uint8_t value[VECTOR_MAX];

		if (i >= 16 && !(states & BIT(7)))
			break;
		fill(value, sizeof(value));
		host_fpu_vector(area, i, true, value);
	}
	area[3] = (uint8_t)((next_random() >> 40 & 7) << 3); /* x87's top */
	area[4] = (uint8_t)(next_random() >> 40);
	area[512] |= 3;
	memcpy(native_area, area, AREA);
}

/* The emulated area as the processor writes it, so that states at rest look the same; without what moves don't touch. */
static void settle(uint8_t *one, bool restore)
{
	uint64_t mask = host_xcr0();

	if (restore)
		__asm__ volatile("xrstor64 (%2)\n	xsave64 (%2)\n	fninit\n	vzeroupper"
				 :
				 : "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)), "b"(one)
				 : "memory");
	memset(one + 6, 0, 26);
	memset(one + 416, 0, 160);
}

/* Whether the processor has the form. */
static bool try_one(const struct form *f, enum shape shape)
{
	unsigned length = assemble(f, shape);
	enum emulate_result result;
	int number;

	random_state();
	fill(memory, MEMORY);
	memcpy(shadow, memory, MEMORY);
	result = run_emulated(length);
	number = run_native();
	if (number == SIGILL)
		return false;
	if (number) {
		assert_int_equal(result, EMULATE_FAULT);
		return true;
	}
	settle(native_area, false);
	settle(area, true);
	if (result != EMULATE_DONE || memcmp(memory, shadow, MEMORY) != 0 ||
	    memcmp(native_area, area, host_fpu_size()) != 0) {
		for (unsigned i = 0; i < host_fpu_size(); i++)
			if (native_area[i] != area[i]) {
				print_message("byte %u of the state: %02x, processor %02x\n", i, area[i],
					      native_area[i]);
				break;
			}
		fail_msg("map %u opcode %02x prefix %u shape %d (code %02x %02x %02x %02x %02x %02x): result %d, "
			 "memory %s",
			 f->map, f->opcode, f->pp, shape, code[0], code[1], code[2], code[3], code[4], code[5], result,
			 memcmp(memory, shadow, MEMORY) != 0 ? "differs" : "the same");
	}
	return true;
}

static bool has(enum shape shape)
{
	return shape == LEGACY || host_xcr0() >> (shape == VEX ? 2 : 7) & 1;
}

static void test_against_the_processor(void **state)
{
	signal(SIGILL, on_signal);
	signal(SIGSEGV, on_signal);
	for (unsigned i = 0; i < ARRAY_SIZE(forms); i++)
		for (enum shape shape = LEGACY; shape <= EVEX; shape++) {
			unsigned done = 0;

			if ((shape == VEX && !forms[i].newer) || (shape == EVEX && !forms[i].evex) || !has(shape))
				continue;
			for (unsigned round = 0; round < ROUNDS; round++)
				done += try_one(&forms[i], shape);
			if (!done)
				fail_msg("opcode %02x prefix %u shape %d never ran", forms[i].opcode, forms[i].pp,
					 shape);
		}
}

/* Masked, broadcast, register forms, and what moves nothing: not done, and nothing changed. */
static void test_left_alone(void **state)
{
	static const uint8_t cases[][8] = {
		{ 0x62, 0xf1, 0x7c, 0x49, 0x10, 0x07 }, /* vmovups zmm0{k1}, [rdi] */
		{ 0x0f, 0x10, 0xc1 },                   /* movups xmm0, xmm1 */
		{ 0x0f, 0x58, 0x07 },                   /* addps xmm0, [rdi] */
		{ 0xf3, 0x0f, 0x12, 0x07 },             /* movsldup */
		{ 0xc5, 0xf8, 0x58, 0x07 },             /* vaddps */
	};
	uint8_t before[AREA];

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		random_state();
		memcpy(before, area, AREA);
		memcpy(code, cases[i], sizeof(cases[i]));
		assert_int_equal(run_emulated(0), EMULATE_UNHANDLED);
		assert_memory_equal(area, before, AREA);
	}
}

/* What FSTP, FNSTENV and FNSAVE do beside storing, against the processor. */
static void test_x87(void **state)
{
	static const struct {
		enum host_x87 what;
		uint8_t code[4];
	} cases[] = {
		{ HOST_X87_POP, { 0xd9, 0x5f, 0x10, 0xc3 } },
		{ HOST_X87_MASK, { 0xd9, 0x77, 0x10, 0xc3 } },
		{ HOST_X87_RESET, { 0xdd, 0x77, 0x10, 0xc3 } },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases) * 20; i++) {
		random_state();
		area[4] = native_area[4] = 0xff;
		memcpy(code, cases[i / 20].code, 4);
		assert_int_equal(run_native(), 0);
		host_fpu_x87(area, cases[i / 20].what);
		settle(native_area, false);
		settle(area, true);
		native_area[2] = area[2]; /* the store's own exceptions */
		native_area[3] = (uint8_t)((native_area[3] & 0x38) | (area[3] & ~0x38));
		assert_memory_equal(native_area, area, 32);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_the_processor),
		cmocka_unit_test(test_left_alone),
		cmocka_unit_test(test_x87),
	};

	code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
