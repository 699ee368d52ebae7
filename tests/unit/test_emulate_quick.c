/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/emulate/*.c
/*
 * The short way for moves against the emulator: random instructions in random states, in memory whose code changes under
 * the decoder's cache all the time. Either the short way ends in the emulator's very state, or it refuses and has
 * changed nothing. QUIRE_QUICK_CASES sets their number, QUIRE_SEED the seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86_64/registers.h"
#include "vm/emulate/emulate.h"
#include "vm/emulate/quick.h"

const struct hv_ops *hv;

#define MEMORY 0x10000u
#define PAGES (MEMORY / PAGE_SIZE)

/* Both sides see this memory; each runs on a copy. */
static uint8_t start[MEMORY], *memory;
static uint8_t rights[PAGES]; /* ACCESS_* */
static bool device[PAGES];    /* whether the short way's access finds a device there */
static struct decode_cache cache;
static unsigned done, refused, by_opcode[512];
static uint64_t seed = 88172645463325252u;

static uint64_t any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static bool one_in(unsigned n)
{
	return any() % n == 0;
}

/* Whether all bytes may be touched this way; if not, *bad is the first that mayn't. */
static bool allowed(uint64_t where, unsigned size, unsigned access, uint64_t *bad)
{
	for (*bad = where; size; ++*bad, size--)
		if (*bad >= MEMORY || (rights[*bad / PAGE_SIZE] & access) != access)
			return false;
	return true;
}

static enum status slow_check(uint64_t where, unsigned size, unsigned access, struct hv_event *fault, uint64_t *address)
{
	if (allowed(where, size, access, address))
		return OK;
	*fault = (struct hv_event){
		.kind = EVENT_EXCEPTION, .vector = VECTOR_PF, .has_error_code = true, .error_code = access
	};
	return GUEST_FAULT;
}

static enum status slow_read(void *context, gva_t where, void *to, unsigned size, unsigned access, bool system,
			     struct hv_event *fault, uint64_t *address)
{
	enum status status = slow_check(where.v, size, access, fault, address);

	if (status == OK)
		memcpy(to, memory + where.v, size);
	return status;
}

static enum status slow_write(void *context, gva_t where, const void *from, unsigned size, bool system,
			      struct hv_event *fault, uint64_t *address)
{
	enum status status = slow_check(where.v, size, ACCESS_WRITE, fault, address);

	if (status == OK)
		memcpy(memory + where.v, from, size);
	return status;
}

static uint32_t no_port_in(void *context, uint16_t port, unsigned size)
{
	return port;
}

static void no_port_out(void *context, uint16_t port, unsigned size, uint32_t value)
{
}

static enum status quick_fetch(void *context, gva_t where, uint8_t *bytes)
{
	uint64_t bad;

	assert_true(where.v % PAGE_SIZE + INSTRUCTION_MAX <= PAGE_SIZE);
	if (!allowed(where.v, INSTRUCTION_MAX, ACCESS_EXECUTE, &bad))
		return GUEST_FAULT;
	memcpy(bytes, memory + where.v, INSTRUCTION_MAX);
	return OK;
}

static enum status quick_access(void *context, gva_t where, unsigned size, bool write, uint64_t *value)
{
	uint64_t bad;

	assert_true(where.v % PAGE_SIZE + size <= PAGE_SIZE);
	if (!allowed(where.v, size, write ? ACCESS_WRITE : ACCESS_READ, &bad))
		return GUEST_FAULT;
	if (!device[where.v / PAGE_SIZE])
		return NOT_FOUND;
	if (write) {
		assert_int_equal(*value & ~byte_mask(size), 0);
		memcpy(memory + where.v, value, size);
	} else {
		*value = 0;
		memcpy(value, memory + where.v, size);
	}
	return OK;
}

static struct hv_vcpu *running;
static unsigned quick_code(void *context)
{
	const struct segment *cs = &running->segment[SEG_CS], *ds = &running->segment[SEG_DS];

	if (!(running->cr0 & CR0_PE))
		return 0;
	if ((running->efer & EFER_LMA) && (cs->attributes & SEG_ATTR_L))
		return HV_CODE_64;
	return (cs->attributes & SEG_ATTR_DB) && !cs->base && !ds->base && cs->limit == HV_FLAT_LIMIT &&
			       ds->limit == HV_FLAT_LIMIT && (ds->attributes & HV_FLAT_MASK) == HV_FLAT_DATA
		       ? HV_CODE_FLAT
		       : 0;
}

static const struct quick_env quick = { .code = quick_code, .fetch = quick_fetch, .access = quick_access };

static const struct segment flat = { .limit = 0xffffffff,
				     .attributes = SEG_ATTR_PRESENT | SEG_ATTR_S | SEG_ATTR_DB | 3 };

static void random_segment(struct segment *s)
{
	static const uint32_t limits[] = { 0, 0xfff, 0x7fff, 0xffff, 0xfffffffe, 0xffffffff };

	s->base = one_in(2) ? 0 : any() % MEMORY;
	s->limit = limits[any() % 6];
	s->attributes = (uint16_t)(any() & 0xf0ff) | (one_in(4) ? 0 : SEG_ATTR_PRESENT);
}

static void random_state(struct hv_vcpu *v)
{
	static const uint64_t flags[] = { RFLAGS_TF, RFLAGS_RF, RFLAGS_AC, RFLAGS_VM };
	unsigned mode = (unsigned)any() % 16;

	memset(v, 0, sizeof(*v));
	v->valid = REGS_ALL;
	v->rflags = 2 | (any() & 0x8d5);
	v->cr0 = CR0_PE | CR0_PG | (any() & CR0_AM);
	for (unsigned i = 0; i < GPR_COUNT; i++)
		v->gpr[i] = one_in(8) ? any() : any() % MEMORY;
	for (unsigned i = 0; i < SEG_COUNT; i++)
		v->segment[i] = flat;
	v->segment[SEG_CS].attributes |= 8;
	v->efer = EFER_LME | EFER_LMA;
	if (mode < 7)
		v->segment[SEG_CS].attributes = SEG_ATTR_PRESENT | SEG_ATTR_S | SEG_ATTR_L | 0xb;
	else if (mode < 9)
		v->segment[SEG_CS].attributes = SEG_ATTR_PRESENT | SEG_ATTR_S | 0xb;
	else if (mode < 10)
		v->cr0 &= ~UINT64_C(1);
	if (one_in(2))
		v->efer &= mode < 7 ? ~UINT64_C(0) : 0;
	if (one_in(4))
		random_segment(&v->segment[any() % SEG_COUNT]);
	if (one_in(8))
		v->rflags |= flags[any() % 4];
	if (one_in(3))
		v->segment[SEG_SS].attributes |= 3 << 5;
	v->interrupt_shadow = one_in(16);
	v->rip = any() % 16 * 0x40 + 0x100;
	if (one_in(8))
		v->rip = PAGE_SIZE - any() % 20;
	if (one_in(32))
		v->rip = any();
}

/* Prefixes, an opcode, and behind it whatever comes. */
static void random_code(uint8_t *code)
{
	static const uint8_t prefixes[] = { 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65 };
	static const uint8_t moves[] = { 0x88, 0x89, 0x8a, 0x8b, 0xa0, 0xa1, 0xa2, 0xa3, 0xc6, 0xc7 };
	static const uint8_t extends[] = { 0xb6, 0xb7, 0xbe, 0xbf };
	unsigned at = 0, byte = 0;

	for (unsigned i = 0; i < 20; i++)
		code[i] = (uint8_t)any();
	while (one_in(4) && at < 3)
		code[at++] = prefixes[any() % sizeof(prefixes)];
	if (one_in(3))
		code[at++] = (uint8_t)(0x40 | any() % 16);
	if (one_in(8)) {
		byte = at; /* anything at all */
	} else if (one_in(3)) {
		code[at++] = 0x0f;
		code[at++] = extends[any() % 4];
		byte = at;
	} else {
		code[at++] = moves[any() % sizeof(moves)];
		byte = at;
	}
	/* Displacements and absolute addresses that lie in memory. */
	if (one_in(2))
		code[byte] = (uint8_t)((any() & 0x38) | (any() & 0xc0 & ~0x40) | 5);
	for (unsigned i = 0; i < 2 && !one_in(3); i++)
		memset(code + byte + (code[byte - !!byte] >= 0xa0 && code[byte - !!byte] < 0xa4 ? 2 : 3), 0, 6);
}

static void random_world(void)
{
	for (unsigned i = 0; i < PAGES; i++) {
		rights[i] = one_in(8) ? (uint8_t)(any() & 7) : ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE;
		device[i] = !one_in(8);
	}
	for (unsigned i = 0; i < MEMORY; i += 8) {
		uint64_t word = any();

		memcpy(start + i, &word, 8);
	}
}

static void count_done(const struct hv_vcpu *before)
{
	struct instruction i;
	enum decode_mode mode = before->segment[SEG_CS].attributes & SEG_ATTR_L && before->efer ? DECODE_64 : DECODE_32;
	const uint8_t *bytes = before->exit.byte_count ? before->exit.bytes : start + before->rip;

	done++;
	if (decode(bytes, INSTRUCTION_MAX, mode, &i) == OK)
		by_opcode[i.map * 256u + i.opcode]++;
}

static void one_case(void)
{
	static uint8_t fast_memory[MEMORY], slow_memory[MEMORY];
	struct emulate_env slow = {
		.read = slow_read, .write = slow_write, .port_in = no_port_in, .port_out = no_port_out
	};
	struct hv_vcpu before, by_fast, by_slow;
	uint64_t where;

	random_state(&before);
	where = before.rip + (before.cr0 & CR0_PE ? before.segment[SEG_CS].base : 0);
	if (where + 20 <= MEMORY && one_in(2))
		random_code(start + where);
	if (one_in(16)) {
		before.exit.byte_count = one_in(2) ? INSTRUCTION_MAX : (uint8_t)(any() % INSTRUCTION_MAX);
		if (where + INSTRUCTION_MAX <= MEMORY)
			memcpy(before.exit.bytes, start + where, INSTRUCTION_MAX);
	}
	by_fast = by_slow = before;
	memcpy(fast_memory, start, MEMORY);
	memory = fast_memory;
	running = &by_fast;
	if (!emulate_quick(&by_fast, &quick, NULL, &cache)) {
		refused++;
		assert_memory_equal(&by_fast, &before, sizeof(before));
		assert_memory_equal(fast_memory, start, MEMORY);
		return;
	}
	memcpy(slow_memory, start, MEMORY);
	memory = slow_memory;
	count_done(&before);
	assert_int_equal(emulate_instruction(&by_slow, &slow), EMULATE_DONE);
	assert_memory_equal(&by_fast, &by_slow, sizeof(before));
	assert_memory_equal(fast_memory, slow_memory, MEMORY);
}

static void test_random(void **state)
{
	static const uint16_t wanted[] = { 0x88, 0x89, 0x8a, 0x8b,  0xa0,  0xa1,  0xa2,
					   0xa3, 0xc6, 0xc7, 0x1b6, 0x1b7, 0x1be, 0x1bf };
	const char *number = getenv("QUIRE_QUICK_CASES"), *given = getenv("QUIRE_SEED");
	unsigned cases = number ? (unsigned)strtoul(number, NULL, 0) : 100000;

	if (given)
		seed = strtoull(given, NULL, 0) | 1;
	printf("seed %llu\n", (unsigned long long)seed);
	for (unsigned i = 0; i < cases; i++) {
		if (i % 512 == 0)
			random_world();
		one_case();
	}
	printf("%u done, %u refused, cache %llu of %llu\n", done, refused, (unsigned long long)cache.hits,
	       (unsigned long long)(cache.hits + cache.misses));
	assert_true(done > cases / 16 && refused > cases / 16 && cache.hits > cases / 64);
	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		assert_true(by_opcode[wanted[i]] > cases / 5000);
}

/* A slot must not answer for other bytes, another mode, or bytes behind the instruction that have become prefixes of nothing. */
static void test_code_that_changes(void **state)
{
	struct hv_vcpu v;

	random_world();
	memset(rights, 7, sizeof(rights));
	memset(device, 1, sizeof(device));
	memory = start;
	running = &v;
	memset(&v, 0, sizeof(v));
	v.valid = REGS_ALL;
	v.cr0 = CR0_PE;
	v.rflags = 2;
	for (unsigned i = 0; i < SEG_COUNT; i++)
		v.segment[i] = flat;
	v.segment[SEG_CS].attributes |= 8;
	v.gpr[GPR_RBX] = 0x2000;
	v.gpr[GPR_RAX] = 0x11111111;
	v.gpr[GPR_RCX] = 0x22222222;
	for (unsigned round = 0; round < 4; round++) {
		uint32_t word;

		/* mov [ebx], eax, and then mov [ebx], ecx, at the same place */
		start[0x100] = 0x89;
		start[0x101] = round & 1 ? 0x0b : 0x03;
		v.rip = 0x100;
		assert_true(emulate_quick(&v, &quick, NULL, &cache));
		assert_int_equal(v.rip, 0x102);
		memcpy(&word, start + 0x2000, 4);
		assert_int_equal(word, round & 1 ? 0x22222222 : 0x11111111);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_random), cmocka_unit_test(test_code_that_changes) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
