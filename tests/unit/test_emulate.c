/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/emulate/*.c
/*
 * What the comparison with a processor can't show: segmentation, pages and faults, repetition that yields, ports and
 * their rights, completion (RF, TF, shadow), fetching. Memory is 1 MiB of linear addresses from 0 with a flag per page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "arch/x86_64/registers.h"
#include "vm/emulate/emulate.h"

const struct hv_ops *hv;

#define MEMORY 0x100000u
#define CODE 0x8000u

static uint8_t memory[MEMORY];
static uint8_t page_rights[MEMORY / PAGE_SIZE]; /* ACCESS_* */
static struct hv_vcpu vcpu;
static struct emulate_env env;
static unsigned reads, writes, fetches, exchange_losses, port_reads;
static uint32_t port_value;
static uint16_t last_port;
static bool refuse;

/* The last page below 4 GiB is the last one of this memory, too. */
static uint64_t place(uint64_t at)
{
	return at / PAGE_SIZE == 0xfffff ? MEMORY - PAGE_SIZE + at % PAGE_SIZE : at;
}

static enum status check(gva_t where, unsigned size, unsigned access, struct hv_event *fault, uint64_t *fault_address)
{
	for (uint64_t at = where.v; at < where.v + size; at++) {
		if (place(at) < MEMORY && (page_rights[place(at) / PAGE_SIZE] & access) == access)
			continue;
		*fault = (struct hv_event){ .kind = EVENT_EXCEPTION,
					    .vector = VECTOR_PF,
					    .has_error_code = true,
					    .error_code = access & ACCESS_WRITE     ? 2
							  : access & ACCESS_EXECUTE ? 16
										    : 0 };
		*fault_address = at;
		return GUEST_FAULT;
	}
	return refuse && access != ACCESS_EXECUTE ? HANDLER : OK;
}

static enum status read_memory(void *context, gva_t where, void *to, unsigned size, unsigned access, bool system,
			       struct hv_event *fault, uint64_t *fault_address)
{
	enum status status = check(where, size, access, fault, fault_address);

	if (access == ACCESS_EXECUTE)
		fetches++;
	else
		reads++;
	if (status == OK)
		memcpy(to, memory + place(where.v), size);
	return status;
}

static enum status write_memory(void *context, gva_t where, const void *from, unsigned size, bool system,
				struct hv_event *fault, uint64_t *fault_address)
{
	enum status status = check(where, size, ACCESS_WRITE, fault, fault_address);

	writes++;
	if (status == OK)
		memcpy(memory + place(where.v), from, size);
	return status;
}

static enum status exchange_memory(void *context, gva_t where, const void *expected, const void *desired, void *seen,
				   unsigned size, struct hv_event *fault, uint64_t *fault_address)
{
	enum status status = check(where, size, ACCESS_READ | ACCESS_WRITE, fault, fault_address);

	if (status != OK)
		return status;
	if (exchange_losses) { /* another CPU was faster */
		exchange_losses--;
		memory[where.v]++;
	}
	memcpy(seen, memory + where.v, size);
	if (memcmp(seen, expected, size) == 0)
		memcpy(memory + where.v, desired, size);
	return OK;
}

static uint32_t port_in(void *context, uint16_t port, unsigned size)
{
	last_port = port;
	port_reads++;
	return port_value++;
}

static void port_out(void *context, uint16_t port, unsigned size, uint32_t value)
{
	last_port = port;
	port_value = value;
}

/* Attributes of present segments with type; DPL 0. */
#define DATA (SEG_ATTR_PRESENT | SEG_ATTR_S | SEG_ATTR_DB | 3)
#define CODE32 (SEG_ATTR_PRESENT | SEG_ATTR_S | SEG_ATTR_DB | 0xb)

enum test_mode { REAL, FLAT32, LONG };

static void set_up(enum test_mode mode, const void *code, unsigned size)
{
	memset(&vcpu, 0, sizeof(vcpu));
	memset(memory, 0, sizeof(memory));
	memset(page_rights, ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE, sizeof(page_rights));
	reads = writes = fetches = exchange_losses = port_reads = 0;
	refuse = false;
	env = (struct emulate_env){
		.read = read_memory, .write = write_memory, .port_in = port_in, .port_out = port_out
	};
	memcpy(memory + CODE, code, size);
	vcpu.valid = REGS_ALL;
	vcpu.rflags = 2;
	vcpu.rip = CODE;
	vcpu.gpr[GPR_RSP] = 0x7000;
	for (unsigned s = 0; s < SEG_COUNT; s++)
		vcpu.segment[s] =
			(struct segment){ .limit = mode == REAL ? 0xffff : 0xffffffff,
					  .attributes = mode == REAL ? SEG_ATTR_PRESENT | SEG_ATTR_S | 3 : DATA };
	if (mode == REAL)
		return;
	vcpu.cr0 = CR0_PE | CR0_PG;
	vcpu.segment[SEG_CS].attributes = CODE32;
	if (mode == LONG) {
		vcpu.efer = EFER_LME | EFER_LMA;
		vcpu.segment[SEG_CS].attributes = SEG_ATTR_PRESENT | SEG_ATTR_S | SEG_ATTR_L | 0xb;
	}
}

#define SET_UP(mode, ...)                                                                                              \
	do {                                                                                                           \
		static const uint8_t code_[] = { __VA_ARGS__ };                                                        \
		set_up(mode, code_, sizeof(code_));                                                                    \
	} while (0)

static void user_mode(void)
{
	vcpu.segment[SEG_CS].attributes |= 3u << 5;
	vcpu.segment[SEG_SS].attributes |= 3u << 5;
}

/* The instruction faults, and nothing but inject, cr2 and RF is different. */
static void expect_fault(unsigned vector, int error_code)
{
	static uint8_t old_memory[MEMORY];
	struct hv_vcpu old = vcpu;

	memcpy(old_memory, memory, MEMORY);
	assert_int_equal(emulate_instruction(&vcpu, &env), EMULATE_FAULT);
	assert_int_equal(vcpu.inject.kind, EVENT_EXCEPTION);
	assert_int_equal(vcpu.inject.vector, vector);
	assert_int_equal(vcpu.inject.has_error_code, error_code >= 0);
	if (error_code >= 0)
		assert_int_equal(vcpu.inject.error_code, error_code);
	old.inject = vcpu.inject;
	old.cr2 = vcpu.cr2;
	old.rflags |= RFLAGS_RF;
	/* A POP that faults in the store marks RSP, but leaves it. */
	old.changed = vcpu.changed;
	assert_memory_equal(&old, &vcpu, sizeof(vcpu));
	assert_memory_equal(memory, old_memory, MEMORY);
}

static void expect_done(unsigned length)
{
	assert_int_equal(emulate_instruction(&vcpu, &env), EMULATE_DONE);
	assert_int_equal(vcpu.rip, CODE + length);
}

static void test_limits(void **state)
{
	SET_UP(FLAT32, 0x89, 0x03); /* mov [ebx], eax */
	vcpu.segment[SEG_DS].limit = 0x1fff;
	vcpu.gpr[GPR_RBX] = 0x1ffc;
	expect_done(2);
	SET_UP(FLAT32, 0x89, 0x03);
	vcpu.segment[SEG_DS].limit = 0x1fff;
	vcpu.gpr[GPR_RBX] = 0x1ffd;
	expect_fault(VECTOR_GP, 0);
	SET_UP(FLAT32, 0x89, 0x45, 0x00); /* mov [ebp], eax */
	vcpu.segment[SEG_SS].limit = 0xfff;
	vcpu.gpr[GPR_RBP] = 0x1000;
	expect_fault(VECTOR_SS, 0);
	SET_UP(FLAT32, 0x8b, 0x03);
	vcpu.segment[SEG_DS].limit = 0x1fff;
	vcpu.segment[SEG_DS].attributes |= 4; /* expand down: 2000h and up */
	vcpu.gpr[GPR_RBX] = 0x1fff;
	expect_fault(VECTOR_GP, 0);
	vcpu.gpr[GPR_RBX] = 0x2000;
	expect_done(2);
	SET_UP(FLAT32, 0x8b, 0x03);
	vcpu.segment[SEG_DS].limit = 0x1fff;
	vcpu.segment[SEG_DS].attributes = (DATA | 4) & ~SEG_ATTR_DB; /* up to ffffh only */
	vcpu.gpr[GPR_RBX] = 0xfffd;
	expect_fault(VECTOR_GP, 0);
	SET_UP(REAL, 0x8b, 0x07); /* mov ax, [bx] */
	vcpu.gpr[GPR_RBX] = 0xffff;
	expect_fault(VECTOR_GP, 0);
}

static void test_types(void **state)
{
	SET_UP(FLAT32, 0x89, 0x03);
	vcpu.segment[SEG_DS].attributes &= ~2; /* read-only */
	expect_fault(VECTOR_GP, 0);
	SET_UP(FLAT32, 0x01, 0x03); /* add [ebx], eax: the read half is refused already */
	vcpu.segment[SEG_DS].attributes &= ~2;
	expect_fault(VECTOR_GP, 0);
	assert_int_equal(reads, 0);
	SET_UP(FLAT32, 0x2e, 0x8b, 0x03); /* mov eax, cs:[ebx] */
	expect_done(3);
	SET_UP(FLAT32, 0x2e, 0x8b, 0x03);
	vcpu.segment[SEG_CS].attributes &= ~2; /* execute-only */
	expect_fault(VECTOR_GP, 0);
	SET_UP(FLAT32, 0x2e, 0x89, 0x03);
	expect_fault(VECTOR_GP, 0);
	SET_UP(FLAT32, 0x8b, 0x03);
	vcpu.segment[SEG_DS].attributes = 0; /* null */
	expect_fault(VECTOR_GP, 0);
	SET_UP(REAL, 0x2e, 0x89, 0x07); /* in real mode CS can be written */
	expect_done(3);
}

static void test_canonical_and_bases(void **state)
{
	SET_UP(LONG, 0x48, 0x89, 0x03);
	vcpu.gpr[GPR_RBX] = UINT64_C(0x800000000000);
	expect_fault(VECTOR_GP, 0);
	vcpu.gpr[GPR_RBX] = UINT64_C(0x7ffffffffff9); /* the last byte is out */
	expect_fault(VECTOR_GP, 0);
	SET_UP(LONG, 0x48, 0x89, 0x45, 0x00);
	vcpu.gpr[GPR_RBP] = UINT64_C(0x800000000000);
	expect_fault(VECTOR_SS, 0);
	SET_UP(LONG, 0x48, 0x89, 0x03);
	vcpu.cr4 = CR4_LA57;
	vcpu.gpr[GPR_RBX] = UINT64_C(0x800000000000);
	expect_fault(VECTOR_PF, 2);
	SET_UP(LONG, 0x65, 0x48, 0x89, 0x03); /* gs; limits and DS don't count */
	vcpu.segment[SEG_GS] = (struct segment){ .base = 0x3000 };
	vcpu.gpr[GPR_RBX] = 8;
	vcpu.gpr[GPR_RAX] = 0x1122334455667788;
	expect_done(4);
	assert_int_equal(*(uint64_t *)(void *)(memory + 0x3008), 0x1122334455667788);
	SET_UP(FLAT32, 0x8b, 0x03); /* the linear address wraps at 4 GiB */
	vcpu.segment[SEG_DS].base = 0xfffff000;
	vcpu.gpr[GPR_RBX] = 0x3000;
	memory[0x2000] = 0x5a;
	expect_done(2);
	assert_int_equal(vcpu.gpr[GPR_RAX], 0x5a);
	SET_UP(REAL, 0x8b, 0x07);
	vcpu.segment[SEG_DS].base = 0x12340;
	vcpu.gpr[GPR_RBX] = 0xabcd0002;
	memory[0x12342] = 0x77;
	expect_done(2);
	assert_int_equal(vcpu.gpr[GPR_RAX], 0x77);
}

static void test_alignment(void **state)
{
	SET_UP(LONG, 0x48, 0x8b, 0x03);
	vcpu.cr0 |= CR0_AM;
	vcpu.rflags |= RFLAGS_AC;
	vcpu.gpr[GPR_RBX] = 0x1004;
	expect_done(3); /* CPL 0 */
	vcpu.rip = CODE;
	user_mode();
	expect_fault(VECTOR_AC, 0);
	vcpu.gpr[GPR_RBX] = 0x1008;
	expect_done(3);
	SET_UP(LONG, 0x48, 0x0f, 0xc7, 0x0b); /* cmpxchg16b */
	vcpu.gpr[GPR_RBX] = 0x1008;
	expect_fault(VECTOR_GP, 0);
}

static void test_pages(void **state)
{
	SET_UP(LONG, 0x48, 0x01, 0x03); /* add [rbx], rax over two pages; the second can't be written */
	vcpu.gpr[GPR_RBX] = 0x1ffc;
	vcpu.gpr[GPR_RAX] = 1;
	page_rights[2] = ACCESS_READ;
	expect_fault(VECTOR_PF, 2);
	assert_int_equal(vcpu.cr2, 0x2000);
	page_rights[2] |= ACCESS_WRITE;
	expect_done(3);
	assert_int_equal(memory[0x1ffc], 1);
	SET_UP(FLAT32, 0x89, 0x03); /* mov [ebx], eax around the end of 4 GiB: all of it or nothing */
	vcpu.segment[SEG_DS].base = 0x1000;
	vcpu.gpr[GPR_RBX] = 0xffffeffe;
	vcpu.gpr[GPR_RAX] = 0x44332211;
	page_rights[0] = ACCESS_READ;
	expect_fault(VECTOR_PF, 2);
	assert_true(vcpu.cr2 == 0 && memory[place(0xfffffffe)] == 0);
	page_rights[0] |= ACCESS_WRITE;
	expect_done(2);
	assert_true(memory[place(0xfffffffe)] == 0x11 && memory[place(0xffffffff)] == 0x22);
	assert_true(memory[0] == 0x33 && memory[1] == 0x44);
	SET_UP(LONG, 0x48, 0x87, 0x03); /* xchg */
	vcpu.gpr[GPR_RBX] = 0x2000;
	page_rights[2] = ACCESS_READ;
	expect_fault(VECTOR_PF, 2);
	SET_UP(LONG, 0x8f, 0x03); /* pop [rbx] */
	vcpu.gpr[GPR_RBX] = 0x2000;
	page_rights[2] = ACCESS_READ;
	expect_fault(VECTOR_PF, 2);
	SET_UP(LONG, 0xff, 0x13); /* call [rbx], stack not writable */
	vcpu.gpr[GPR_RBX] = 0x3000;
	page_rights[6] = ACCESS_READ;
	expect_fault(VECTOR_PF, 2);
	SET_UP(LONG, 0x48, 0x8b, 0x03);
	refuse = true;
	assert_int_equal(emulate_instruction(&vcpu, &env), EMULATE_STOP);
	assert_int_equal(vcpu.rip, CODE);
}

static void test_fetch(void **state)
{
	static const uint8_t load[] = { 0x48, 0x8b, 0x03 };

	SET_UP(LONG, 0x90);
	memcpy(memory + 0x8ffd, load, 3); /* ends with its page: the next one isn't touched */
	vcpu.rip = 0x8ffd;
	page_rights[9] = 0;
	assert_int_equal(emulate_instruction(&vcpu, &env), EMULATE_DONE);
	assert_int_equal(vcpu.rip, 0x9000);
	memcpy(memory + 0x8ffe, load, 3);
	vcpu.rip = 0x8ffe;
	expect_fault(VECTOR_PF, 16);
	assert_int_equal(vcpu.cr2, 0x9000);
	page_rights[9] = ACCESS_EXECUTE;
	assert_int_equal(emulate_instruction(&vcpu, &env), EMULATE_DONE);
	assert_int_equal(vcpu.rip, 0x9001);
	/* Bytes that the processor gave: no fetch, and only once. */
	SET_UP(LONG, 0x90);
	memcpy(vcpu.exit.bytes, load, 3);
	vcpu.exit.byte_count = 3;
	expect_done(3);
	assert_int_equal(fetches, 0);
	assert_int_equal(vcpu.exit.byte_count, 0);
	/* CS limit in the middle of the instruction. */
	SET_UP(FLAT32, 0xa1, 0, 0, 0, 0);
	vcpu.segment[SEG_CS].limit = CODE + 3;
	expect_fault(VECTOR_GP, 0);
	vcpu.segment[SEG_CS].limit = CODE + 4;
	expect_done(5);
	SET_UP(LONG, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90);
	expect_fault(VECTOR_GP, 0);
	SET_UP(LONG, 0x06);
	expect_fault(VECTOR_UD, -1);
	SET_UP(LONG, 0xf0, 0x89, 0x03); /* lock mov */
	expect_fault(VECTOR_UD, -1);
}

static void test_repeat(void **state)
{
	SET_UP(LONG, 0xf3, 0xaa); /* rep stosb, yields after 4096 */
	vcpu.gpr[GPR_RCX] = 10000;
	vcpu.gpr[GPR_RDI] = 0x10000;
	vcpu.gpr[GPR_RAX] = 0xee;
	expect_done(0);
	assert_int_equal(vcpu.gpr[GPR_RCX], 10000 - 4096);
	assert_int_equal(vcpu.gpr[GPR_RDI], 0x10000 + 4096);
	expect_done(0);
	expect_done(2);
	assert_int_equal(memory[0x10000 + 9999], 0xee);
	assert_int_equal(memory[0x10000 + 10000], 0);
	/* A fault in the middle keeps what is done. */
	SET_UP(LONG, 0xf3, 0x48, 0xa5);
	vcpu.gpr[GPR_RCX] = 4;
	vcpu.gpr[GPR_RSI] = 0x3000;
	vcpu.gpr[GPR_RDI] = 0x1ff0;
	page_rights[2] = ACCESS_READ;
	assert_int_equal(emulate_instruction(&vcpu, &env), EMULATE_FAULT);
	assert_int_equal(vcpu.gpr[GPR_RCX], 2);
	assert_int_equal(vcpu.gpr[GPR_RSI], 0x3010);
	assert_int_equal(vcpu.gpr[GPR_RDI], 0x2000);
	assert_int_equal(vcpu.cr2, 0x2000);
	assert_int_equal(vcpu.rip, CODE);
	/* 16-bit addresses: only CX, SI and DI, and they wrap. */
	SET_UP(REAL, 0xf3, 0xa4);
	vcpu.gpr[GPR_RCX] = 0xaaaa0002;
	vcpu.gpr[GPR_RSI] = 0xbbbbffff;
	vcpu.gpr[GPR_RDI] = 0xcccc1000;
	memory[0xffff] = 1;
	memory[0] = 2;
	expect_done(2);
	assert_int_equal(memory[0x1000] | memory[0x1001] << 8, 0x0201);
	assert_int_equal(vcpu.gpr[GPR_RCX], 0xaaaa0000);
	assert_int_equal(vcpu.gpr[GPR_RSI], 0xbbbb0001);
	assert_int_equal(vcpu.gpr[GPR_RDI], 0xcccc1002);
	SET_UP(LONG, 0xf3, 0xaa);
	vcpu.gpr[GPR_RCX] = 0;
	vcpu.gpr[GPR_RDI] = 1ull << 50;
	expect_done(2);
	assert_int_equal(writes, 0);
}

static void test_ports(void **state)
{
	SET_UP(LONG, 0xf3, 0x66, 0x6d); /* rep insw */
	vcpu.gpr[GPR_RCX] = 3;
	vcpu.gpr[GPR_RDX] = 0x1f0;
	vcpu.gpr[GPR_RDI] = 0x1ffe;
	port_value = 0x1111;
	expect_done(3);
	assert_int_equal(port_reads, 3);
	assert_int_equal(memory[0x2002], 0x13);
	vcpu.rip = CODE; /* no data may be lost to a page fault */
	page_rights[2] = ACCESS_READ;
	vcpu.gpr[GPR_RCX] = 1;
	vcpu.gpr[GPR_RDI] = 0x2000;
	expect_fault(VECTOR_PF, 2);
	assert_int_equal(port_reads, 3);
	SET_UP(LONG, 0xe7, 0x80); /* out 80h, eax */
	vcpu.gpr[GPR_RAX] = 0x12345678;
	expect_done(2);
	assert_int_equal(port_value, 0x12345678);
	assert_int_equal(last_port, 0x80);
	/* CPL 3: by the bitmap. */
	SET_UP(LONG, 0xec); /* in al, dx */
	user_mode();
	vcpu.gpr[GPR_RDX] = 0x3ff;
	vcpu.segment[SEG_TR] =
		(struct segment){ .base = 0x20000, .limit = 104 + 0x3ff / 8, .attributes = SEG_ATTR_PRESENT | 0xb };
	memory[0x20000 + 102] = 104;
	expect_fault(VECTOR_GP, 0); /* the bitmap lacks its last byte */
	vcpu.segment[SEG_TR].limit++;
	expect_done(1);
	vcpu.rip = CODE;
	memory[0x20000 + 104 + 0x7f] = 0x80;
	expect_fault(VECTOR_GP, 0);
	vcpu.rflags |= 3 << RFLAGS_IOPL_SHIFT;
	expect_done(1);
}

static void test_locked(void **state)
{
	SET_UP(LONG, 0xf0, 0x48, 0x0f, 0xc1, 0x03); /* lock xadd [rbx], rax */
	env.compare_exchange = exchange_memory;
	vcpu.gpr[GPR_RBX] = 0x1000;
	vcpu.gpr[GPR_RAX] = 10;
	memory[0x1000] = 5;
	exchange_losses = 3;
	expect_done(5);
	assert_int_equal(memory[0x1000], 5 + 3 + 10);
	assert_int_equal(vcpu.gpr[GPR_RAX], 8);
	vcpu.rip = CODE; /* without end: back to the guest, nothing changed */
	exchange_losses = 1000;
	expect_done(0);
	assert_int_equal(vcpu.gpr[GPR_RAX], 8);
	assert_true(exchange_losses > 900);
}

static void test_completion(void **state)
{
	SET_UP(LONG, 0x48, 0x8b, 0x03);
	vcpu.rflags |= RFLAGS_TF | RFLAGS_RF;
	vcpu.interrupt_shadow = true;
	expect_done(3);
	assert_int_equal(vcpu.inject.vector, VECTOR_DB);
	assert_int_equal(vcpu.inject.has_error_code, false);
	assert_true(vcpu.dr[6] & BIT(14));
	assert_false(vcpu.rflags & RFLAGS_RF);
	assert_false(vcpu.interrupt_shadow);
	assert_int_equal(vcpu.changed & (REGS_SHADOW | REGS_RFLAGS), REGS_SHADOW | REGS_RFLAGS);
	assert_true(vcpu.changed & REGS_DEBUG);
	SET_UP(LONG, 0x48, 0x8b, 0x03);
	expect_done(3);
	assert_int_equal(vcpu.changed, 0);
	SET_UP(REAL, 0x8e, 0xd0); /* mov ss, ax */
	vcpu.gpr[GPR_RAX] = 0x1234;
	expect_done(2);
	assert_int_equal(vcpu.segment[SEG_SS].base, 0x12340);
	assert_true(vcpu.interrupt_shadow);
}

static void test_stack(void **state)
{
	SET_UP(LONG, 0x8f, 0x44, 0x24, 0x08); /* pop [rsp+8]: RSP as it is afterwards */
	memory[0x7000] = 0x42;
	expect_done(4);
	assert_int_equal(memory[0x7010], 0x42);
	assert_int_equal(vcpu.gpr[GPR_RSP], 0x7008);
	SET_UP(LONG, 0xff, 0x74, 0x24, 0x08); /* push [rsp+8]: as it was */
	memory[0x7008] = 0x43;
	expect_done(4);
	assert_int_equal(memory[0x6ff8], 0x43);
	SET_UP(LONG, 0xff, 0x13);
	vcpu.gpr[GPR_RBX] = 0x3000;
	memory[0x3001] = 0x44;
	assert_int_equal(emulate_instruction(&vcpu, &env), EMULATE_DONE);
	assert_int_equal(vcpu.rip, 0x4400);
	assert_int_equal(*(uint64_t *)(void *)(memory + 0x6ff8), CODE + 2);
	assert_true(vcpu.changed & REGS_RSP);
	SET_UP(REAL, 0x50); /* push ax: SP wraps, the rest of ESP stays */
	vcpu.gpr[GPR_RSP] = 0x10000;
	expect_done(1);
	assert_int_equal(vcpu.gpr[GPR_RSP], 0x1fffe);
	SET_UP(FLAT32, 0xff, 0x23); /* jmp [ebx] beyond CS */
	vcpu.segment[SEG_CS].limit = 0xffff;
	vcpu.gpr[GPR_RBX] = 0x3000;
	memory[0x3002] = 1;
	expect_fault(VECTOR_GP, 0);
}

static void test_unhandled(void **state)
{
	enum emulate_result result;

	SET_UP(LONG, 0x0f, 0x11, 0x03); /* movups [rbx], xmm0: no FPU here */
	assert_int_equal(emulate_instruction(&vcpu, &env), EMULATE_UNHANDLED);
	assert_int_equal(env.byte_count, 3);
	assert_int_equal(env.bytes[1], 0x11);
	assert_int_equal(emulate_length(&vcpu, &env, &result), 3);
	SET_UP(FLAT32, 0x8e, 0xd8); /* mov ds, ax */
	assert_int_equal(emulate_instruction(&vcpu, &env), EMULATE_UNHANDLED);
	page_rights[CODE / PAGE_SIZE] = 0;
	assert_int_equal(emulate_length(&vcpu, &env, &result), 0);
	assert_int_equal(result, EMULATE_FAULT);
	SET_UP(LONG, 0xf7, 0x33); /* div by zero */
	expect_fault(VECTOR_DE, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_canonical_and_bases),
		cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_fetch),
		cmocka_unit_test(test_repeat),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_locked),
		cmocka_unit_test(test_completion),
		cmocka_unit_test(test_stack),
		cmocka_unit_test(test_unhandled),
	};

	return cmocka_run_group_tests_name("emulate", tests, NULL, NULL);
}
