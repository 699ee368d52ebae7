/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/emulate/*.c
/*
 * The emulator against the processor that runs the test: random forms of the instructions, random operands, the same
 * registers and memory on both sides; then registers, defined flags, memory and #DE must be the same.
 * QUIRE_NATIVE_CASES sets their number, QUIRE_SEED the seed.
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

#include "arch/x86_64/registers.h"
#include "vm/emulate/emulate.h"

#define MEMORY 4096u
#define CF RFLAGS_CF
#define PF RFLAGS_PF
#define AF RFLAGS_AF
#define ZF RFLAGS_ZF
#define SF RFLAGS_SF
#define OF RFLAGS_OF
#define ARITHMETIC (CF | PF | AF | ZF | SF | OF)

const struct hv_ops *hv;

/* ---- the native side ---- */

struct native {
	uint64_t gpr[16];
	uint64_t flags;
};

extern struct native *native_state;
extern void *native_code;
extern char native_return[];
void native_run(void);

/* Loads all registers but RSP, jumps to the code, which jumps back to native_return. */
__asm__(".data\nnative_state: .quad 0\nnative_code: .quad 0\nnative_hold: .quad 0\n"
	".globl native_state, native_code, native_return, native_run\n.text\n"
	"native_run:\n"
	"	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
	"	mov native_state(%rip), %rdi\n	pushq 128(%rdi)\n	popfq\n"
	"	mov 0(%rdi), %rax\n	mov 8(%rdi), %rcx\n	mov 16(%rdi), %rdx\n	mov 24(%rdi), %rbx\n"
	"	mov 40(%rdi), %rbp\n	mov 48(%rdi), %rsi\n	mov 64(%rdi), %r8\n	mov 72(%rdi), %r9\n"
	"	mov 80(%rdi), %r10\n	mov 88(%rdi), %r11\n	mov 96(%rdi), %r12\n	mov 104(%rdi), %r13\n"
	"	mov 112(%rdi), %r14\n	mov 120(%rdi), %r15\n	mov 56(%rdi), %rdi\n"
	"	jmp *native_code(%rip)\n"
	"native_return:\n"
	"	mov %rdi, native_hold(%rip)\n	mov native_state(%rip), %rdi\n	pushfq\n	popq 128(%rdi)\n	cld\n"
	"	mov %rax, 0(%rdi)\n	mov %rcx, 8(%rdi)\n	mov %rdx, 16(%rdi)\n	mov %rbx, 24(%rdi)\n"
	"	mov %rbp, 40(%rdi)\n	mov %rsi, 48(%rdi)\n	mov %r8, 64(%rdi)\n	mov %r9, 72(%rdi)\n"
	"	mov %r10, 80(%rdi)\n	mov %r11, 88(%rdi)\n	mov %r12, 96(%rdi)\n	mov %r13, 104(%rdi)\n"
	"	mov %r14, 112(%rdi)\n	mov %r15, 120(%rdi)\n	mov native_hold(%rip), %rax\n	mov %rax, 56(%rdi)\n"
	"	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	pop %rbx\n	ret\n");

static uint8_t *code, *memory, shadow[MEMORY];
static sigjmp_buf after_fault;

static void on_signal(int number)
{
	siglongjmp(after_fault, number);
}

/* The signal that the instruction raised, or 0. */
static int run_native(struct native *state, const uint8_t *bytes, unsigned length)
{
	static const uint8_t jump[] = { 0xff, 0x25, 0, 0, 0, 0 }; /* jmp *0(%rip) */
	void *back = native_return;
	int number;

	memcpy(code, bytes, length);
	memcpy(code + length, jump, sizeof(jump));
	memcpy(code + length + sizeof(jump), &back, sizeof(back));
	native_state = state;
	native_code = code;
	number = sigsetjmp(after_fault, 1);
	if (number == 0)
		native_run();
	return number;
}

/* ---- the emulated side: the same addresses, another memory ---- */

static uint8_t *place(gva_t where, unsigned size)
{
	uint64_t base = (uint64_t)(uintptr_t)memory;

	return where.v >= base && where.v + size <= base + MEMORY ? shadow + (where.v - base) : NULL;
}

static enum status read_memory(void *context, gva_t where, void *to, unsigned size, unsigned access, bool system,
			       struct hv_event *fault, uint64_t *fault_address)
{
	if (access == ACCESS_EXECUTE) {
		memcpy(to, (void *)(uintptr_t)where.v, size);
		return OK;
	}
	if (!place(where, size))
		return BAD_ADDRESS;
	memcpy(to, place(where, size), size);
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

static enum status exchange_memory(void *context, gva_t where, const void *expected, const void *desired, void *seen,
				   unsigned size, struct hv_event *fault, uint64_t *fault_address)
{
	if (!place(where, size))
		return BAD_ADDRESS;
	memcpy(seen, place(where, size), size);
	if (memcmp(seen, expected, size) == 0)
		memcpy(place(where, size), desired, size);
	return OK;
}

static void set_up(struct hv_vcpu *vcpu, const struct native *state)
{
	memset(vcpu, 0, sizeof(*vcpu));
	memcpy(vcpu->gpr, state->gpr, sizeof(vcpu->gpr));
	vcpu->rip = (uint64_t)(uintptr_t)code;
	vcpu->valid = REGS_ALL;
	vcpu->rflags = state->flags;
	vcpu->cr0 = CR0_PE | CR0_PG;
	vcpu->efer = EFER_LME | EFER_LMA;
	vcpu->segment[SEG_CS].attributes = SEG_ATTR_PRESENT | SEG_ATTR_S | SEG_ATTR_L | 0xb | 3u << 5;
	vcpu->segment[SEG_SS].attributes = SEG_ATTR_PRESENT | SEG_ATTR_S | SEG_ATTR_DB | 3 | 3u << 5;
}

/* ---- random instructions ---- */

static uint64_t seed;

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * UINT64_C(0x2545f4914f6cdd1d);
}

static unsigned below(unsigned n)
{
	return (unsigned)((next_random() >> 33) % n);
}

#define M 0x001u    /* ModRM */
#define PAIR 0x002u /* opcode or opcode + 1: bytes or not */
#define I8 0x004u
#define IZ 0x008u /* of operand size; a byte for PAIR's even opcode */
#define LOCK 0x010u
#define MEMORY_ONLY 0x020u
#define STRING 0x040u
#define PLUS_REG 0x080u
#define SCAN 0x100u /* SCAS, CMPS */
#define BITS_IN_REG 0x200u
#define CONDITION 0x400u
#define F3 0x800u
#define BYTE 0x1000u /* always a byte */
#define IV 0x2000u
#define SHIFT 0x4000u
#define WIDE 0x8000u /* no 66 */
#define F6 0x10000u  /* an immediate for /0 and /1 */

static const struct form {
	uint16_t opcode;   /* 0x0fxx: in the 0F map; 0x38xx: 0F38 */
	uint8_t low, high; /* ModRM.reg when it is a group; 0xff: a register */
	uint32_t flags;
	uint64_t undefined;
} forms[] = {
#define ALU(n)                                                                                                         \
	{ 8 * (n), 0xff, 0, M | PAIR | LOCK, 0 }, { 8 * (n) + 2, 0xff, 0, M | PAIR, 0 },                               \
	{                                                                                                              \
		8 * (n) + 4, 0xff, 0, PAIR | IZ, 0                                                                     \
	}
	ALU(0),
	ALU(1),
	ALU(2),
	ALU(3),
	ALU(4),
	ALU(5),
	ALU(6),
	ALU(7),
	{ 0x80, 0, 7, M | PAIR | IZ, 0 },
	{ 0x83, 0, 6, M | I8 | LOCK, 0 },
	{ 0x84, 0xff, 0, M | PAIR, AF },
	{ 0xa8, 0xff, 0, PAIR | IZ, AF },
	{ 0x86, 0xff, 0, M | PAIR | LOCK, 0 },
	{ 0x88, 0xff, 0, M | PAIR, 0 },
	{ 0x8a, 0xff, 0, M | PAIR, 0 },
	{ 0xc6, 0, 0, M | PAIR | IZ, 0 },
	{ 0xb0, 0xff, 0, PLUS_REG | BYTE | I8, 0 },
	{ 0xb8, 0xff, 0, PLUS_REG | IV, 0 },
	{ 0x8d, 0xff, 0, M | MEMORY_ONLY, 0 },
	{ 0x63, 0xff, 0, M, 0 },
	{ 0x90, 0xff, 0, PLUS_REG, 0 },
	{ 0x98, 0xff, 0, PAIR, 0 },
	{ 0x9e, 0xff, 0, 0, 0 },
	{ 0x9f, 0xff, 0, 0, 0 },
	{ 0xf5, 0xff, 0, 0, 0 },
	{ 0xf8, 0xff, 0, PAIR, 0 },
	{ 0xfe, 0, 1, M | PAIR | LOCK, 0 },
	{ 0xf6, 0, 0, M | PAIR | F6, AF },
	{ 0xf6, 2, 3, M | PAIR | LOCK, 0 },
	{ 0xf6, 4, 5, M | PAIR, SF | ZF | AF | PF },
	{ 0xf6, 6, 7, M | PAIR, ARITHMETIC },
	{ 0x69, 0xff, 0, M | IZ, SF | ZF | AF | PF },
	{ 0x6b, 0xff, 0, M | I8, SF | ZF | AF | PF },
	{ 0x0faf, 0xff, 0, M, SF | ZF | AF | PF },
	{ 0xc0, 0, 7, M | PAIR | I8 | SHIFT, 0 },
	{ 0xd0, 0, 7, M | PAIR | SHIFT, 0 },
	{ 0xd2, 0, 7, M | PAIR | SHIFT, 0 },
	{ 0x0fa4, 0xff, 0, M | I8 | SHIFT, 0 },
	{ 0x0fa5, 0xff, 0, M | SHIFT, 0 },
	{ 0x0fac, 0xff, 0, M | I8 | SHIFT, 0 },
	{ 0x0fad, 0xff, 0, M | SHIFT, 0 },
	{ 0x0fa3, 0xff, 0, M | BITS_IN_REG, OF | SF | AF | PF },
	{ 0x0fab, 0xff, 0, M | BITS_IN_REG | LOCK, OF | SF | AF | PF },
	{ 0x0fb3, 0xff, 0, M | BITS_IN_REG | LOCK, OF | SF | AF | PF },
	{ 0x0fbb, 0xff, 0, M | BITS_IN_REG | LOCK, OF | SF | AF | PF },
	{ 0x0fba, 5, 7, M | I8 | LOCK, OF | SF | AF | PF },
	{ 0x0fba, 4, 4, M | I8, OF | SF | AF | PF },
	{ 0x0fbc, 0xff, 0, M, CF | OF | SF | AF | PF },
	{ 0x0fbd, 0xff, 0, M, CF | OF | SF | AF | PF },
	{ 0x0fb8, 0xff, 0, M | F3, 0 },
	{ 0x0f90, 0, 0, M | CONDITION | BYTE, 0 },
	{ 0x0f40, 0xff, 0, M | CONDITION, 0 },
	{ 0x0fb6, 0xff, 0, M | PAIR, 0 },
	{ 0x0fbe, 0xff, 0, M | PAIR, 0 },
	{ 0x0fb0, 0xff, 0, M | PAIR | LOCK, 0 },
	{ 0x0fc0, 0xff, 0, M | PAIR | LOCK, 0 },
	{ 0x0fc7, 1, 1, M | MEMORY_ONLY | LOCK | WIDE, 0 },
	{ 0x0fc8, 0xff, 0, PLUS_REG | WIDE, 0 },
	{ 0x38f0, 0xff, 0, M | MEMORY_ONLY, 0 },
	{ 0x38f1, 0xff, 0, M | MEMORY_ONLY, 0 },
	{ 0xa4, 0xff, 0, PAIR | STRING, 0 },
	{ 0xaa, 0xff, 0, PAIR | STRING, 0 },
	{ 0xac, 0xff, 0, PAIR | STRING, 0 },
	{ 0xa6, 0xff, 0, PAIR | STRING | SCAN, 0 },
	{ 0xae, 0xff, 0, PAIR | STRING | SCAN, 0 },
};

struct example {
	uint8_t bytes[16];
	unsigned length, size;
	uint64_t undefined;
	struct native state;
};

static const uint8_t bases[] = { GPR_RBX, GPR_RSI, GPR_RDI, GPR_R12, GPR_R13, GPR_RBP, GPR_R14 };

static void put(struct example *x, uint64_t value, unsigned size)
{
	memcpy(x->bytes + x->length, &value, size);
	x->length += size;
}

static unsigned random_register(bool byte_without_rex)
{
	unsigned reg;

	do
		reg = below(byte_without_rex ? 8 : 16);
	while (reg == GPR_RSP && !byte_without_rex);
	return reg;
}

/* Any value, with a taste for edges. */
static uint64_t random_value(void)
{
	static const uint64_t edges[] = { 0,
					  1,
					  2,
					  0x7f,
					  0x80,
					  0xff,
					  0x7fff,
					  0x8000,
					  0xffff,
					  0x7fffffff,
					  0x80000000,
					  0xffffffff,
					  UINT64_C(0x7fffffffffffffff),
					  UINT64_C(0x8000000000000000),
					  ~UINT64_C(0) };
	uint64_t value = next_random();

	switch (below(4)) {
	case 0: return edges[below(sizeof(edges) / sizeof(edges[0]))];
	case 1: return value & 0xff;
	case 2: return (uint64_t)(int64_t)(int8_t)value;
	default: return value;
	}
}

static void random_state(struct example *x, const struct form *form)
{
	uint64_t middle = (uint64_t)(uintptr_t)memory + MEMORY / 2;

	for (unsigned n = 0; n < 16; n++)
		x->state.gpr[n] = random_value();
	for (unsigned n = 0; n < sizeof(bases); n++)
		x->state.gpr[bases[n]] = middle + below(64);
	x->state.gpr[GPR_R9] = below(32);
	if (form->flags & SHIFT || below(2))
		x->state.gpr[GPR_RCX] = (next_random() & ~UINT64_C(0xff)) | below(70);
	if (form->flags & STRING)
		x->state.gpr[GPR_RCX] = below(40);
	x->state.flags = 2 | RFLAGS_IF | (next_random() & ARITHMETIC);
	if (form->flags & STRING && below(2))
		x->state.flags |= RFLAGS_DF;
	for (unsigned n = 0; n < MEMORY; n += 8) {
		uint64_t value = below(3) ? random_value() : 0;

		memcpy(memory + n, &value, 8);
	}
}

/* CMPXCHG and scans would hardly ever find equality by chance. */
static void favour_equality(struct example *x)
{
	uint64_t rbx = x->state.gpr[GPR_RBX] - (uint64_t)(uintptr_t)memory;

	if (below(2)) {
		memcpy(&x->state.gpr[GPR_RAX], memory + rbx, 8);
		memcpy(&x->state.gpr[GPR_RDX], memory + rbx + (below(2) ? 8 : 4), 8);
	}
}

/* The displacement is small, or the operand is RIP-relative; x->bytes ends where ModRM is to come. rex: already there. */
static void put_modrm(struct example *x, unsigned reg, bool memory_form, unsigned rm, unsigned scale,
		      unsigned immediate)
{
	static const uint8_t size[3] = { 0, 1, 4 };
	unsigned mod = below(3), low = rm & 7;

	if (!memory_form) {
		put(x, 0xc0 | (reg & 7) << 3 | (rm & 7), 1);
		return;
	}
	if (scale == 5) { /* RIP-relative */
		uint64_t end = (uint64_t)(uintptr_t)code + x->length + 5 + immediate;

		put(x, (reg & 7) << 3 | 5, 1);
		put(x, (uint64_t)(uintptr_t)memory + 1024 + below(256) - end, 4);
		return;
	}
	if (low == 5 && mod == 0)
		mod = 1;
	if (scale < 4 || low == 4) {
		put(x, mod << 6 | (reg & 7) << 3 | 4, 1);
		put(x, scale < 4 ? scale << 6 | 1 << 3 | low : 4 << 3 | low, 1); /* index R9 (REX.X) or none */
	} else {
		put(x, mod << 6 | (reg & 7) << 3 | low, 1);
	}
	put(x, (uint64_t)(int64_t)(int)(below(200) - 100), size[mod]);
}

static unsigned immediate_bytes(const struct form *form, bool byte, unsigned operand)
{
	if (form->flags & (IZ | F6))
		return byte ? 1 : operand == 2 ? 2 : 4;
	return form->flags & I8 ? 1 : form->flags & IV ? operand : 0;
}

static void put_prefixes(struct example *x, const struct form *form, unsigned operand, bool address32, bool lock)
{
	if (operand == 2)
		put(x, 0x66, 1);
	if (address32 && below(8) == 0)
		put(x, 0x67, 1);
	if (lock)
		put(x, 0xf0, 1);
	if (form->flags & F3 || (form->flags & STRING && below(3)))
		put(x, form->flags & SCAN && below(2) ? 0xf2 : 0xf3, 1);
}

static void random_example(struct example *x)
{
	const struct form *form = &forms[below(sizeof(forms) / sizeof(forms[0]))];
	bool odd = form->flags & PAIR && below(2);
	bool byte = (form->flags & BYTE) || (form->flags & PAIR && !odd && form->opcode != 0x98);
	bool extends = form->opcode == 0x0fb6 || form->opcode == 0x0fbe, byte_rm = byte;
	unsigned operand = (unsigned[]){ 2, 4, 8 }[form->flags & WIDE ? 1 + below(2) : below(3)];
	bool memory_form = form->flags & MEMORY_ONLY || below(3);
	bool need_rex = operand == 8 || below(2), lock = form->flags & LOCK && memory_form && below(2);
	unsigned reg = form->low != 0xff ? form->low + below(form->high - form->low + 1)
					 : random_register(byte && !extends && !need_rex);
	unsigned rm = memory_form ? bases[below(need_rex ? 7 : 3)] : random_register(byte_rm && !need_rex);
	unsigned scale = need_rex ? below(7) : 4 + below(2), opcode = form->opcode, condition = below(16), immediate;

	if (!need_rex && (reg > 7 || rm > 7))
		need_rex = true;
	if (byte_rm && need_rex && !memory_form && rm == GPR_RSP)
		rm = GPR_RAX;
	if (byte && need_rex && reg == GPR_RSP && form->low == 0xff)
		reg = GPR_RAX;
	if (form->flags & M && !memory_form && !byte_rm && rm == GPR_RSP)
		rm = GPR_RAX;
	random_state(x, form);
	if (form->flags & SCAN || opcode == 0x0fb0 || opcode == 0x0fc7)
		favour_equality(x);
	x->length = 0;
	x->undefined = form->undefined;
	x->size = byte ? 1 : operand;
	if (form->flags & BITS_IN_REG && memory_form) {
		while (reg == GPR_RSP || memchr(bases, reg, sizeof(bases)) || reg == GPR_R9)
			reg = random_register(false);
		need_rex |= reg > 7;
		x->state.gpr[reg] = (uint64_t)(int64_t)((int)below(8000) - 4000);
	}
	if (opcode == 0x0fc7 && operand == 8) { /* aligned */
		for (unsigned n = 0; n < sizeof(bases); n++)
			x->state.gpr[bases[n]] &= ~UINT64_C(15);
		scale = 4;
	}
	put_prefixes(x, form, operand, form->flags & M && memory_form && scale != 5, lock);
	if (form->flags & PLUS_REG)
		rm = random_register(byte && !need_rex), need_rex |= rm > 7;
	if (byte && need_rex && form->flags & PLUS_REG && rm == GPR_RSP)
		rm = GPR_RDX;
	if (need_rex)
		put(x,
		    0x40 | (operand == 8) << 3 | (form->flags & M && form->low == 0xff && reg > 7) << 2 |
			    (memory_form && scale < 4) << 1 | (form->flags & (M | PLUS_REG) && rm > 7),
		    1);
	if (opcode >= 0x3800)
		put(x, 0x380f, 2);
	else if (opcode >= 0x0f00)
		put(x, 0x0f, 1);
	put(x,
	    (opcode & 0xff) + odd + (form->flags & CONDITION ? condition : 0) + (form->flags & PLUS_REG ? rm & 7 : 0),
	    1);
	immediate = immediate_bytes(form, byte, operand);
	if (form->flags & M)
		put_modrm(x, reg, memory_form, rm, scale, immediate);
	put(x, random_value(), immediate);
}

/* OF is defined only for a count of 1; CF not for counts beyond the operand; SHLD and SHRD of words not beyond 16. */
static bool shift_is_defined(const struct example *x, const struct hv_vcpu *vcpu, uint64_t *undefined)
{
	unsigned at = 0, count, bits = 8 * x->size;
	bool wide = false, two_byte;
	uint8_t opcode;

	while (x->bytes[at] == 0x66 || x->bytes[at] == 0x67 || x->bytes[at] == 0xf0 || x->bytes[at] == 0xf3 ||
	       x->bytes[at] == 0xf2)
		at++;
	if ((x->bytes[at] & 0xf0) == 0x40)
		wide = x->bytes[at++] & 8;
	two_byte = x->bytes[at] == 0x0f;
	opcode = x->bytes[at + two_byte];
	if (two_byte ? (opcode & 0xf6) != 0xa4 : !((opcode & 0xfe) == 0xc0 || (opcode & 0xfc) == 0xd0))
		return true;
	if (two_byte ? !(opcode & 1) : opcode < 0xd0)
		count = x->bytes[x->length - 1];
	else if (!two_byte && opcode < 0xd2)
		count = 1;
	else
		count = x->state.gpr[GPR_RCX] & 0xff;
	count &= wide ? 63 : 31;
	if (count == 0)
		return true;
	if (two_byte || (x->bytes[at + 1] >> 3 & 7) >= 4)
		*undefined |= AF;
	if (count != 1)
		*undefined |= OF;
	if (!two_byte && (x->bytes[at + 1] >> 3 & 7) >= 4 && count > bits)
		*undefined |= CF;
	return !two_byte || count <= bits;
}

static void show(const struct example *x, const struct native *native, const struct hv_vcpu *vcpu, int number,
		 enum emulate_result result, uint64_t undefined)
{
	print_error("bytes");
	for (unsigned n = 0; n < x->length; n++)
		print_error(" %02x", x->bytes[n]);
	print_error(": signal %d, result %d, flags before %#lx native %#lx ours %#lx undefined %#lx\n", number, result,
		    x->state.flags, native->flags, vcpu->rflags, undefined);
	for (unsigned n = 0; n < 16; n++)
		if (n != GPR_RSP && (native->gpr[n] != vcpu->gpr[n]))
			print_error("  gpr %u: before %#lx native %#lx ours %#lx\n", n, x->state.gpr[n], native->gpr[n],
				    vcpu->gpr[n]);
	for (unsigned n = 0; n < MEMORY; n++)
		if (memory[n] != shadow[n])
			print_error("  memory %#x: native %#x ours %#x\n", n, memory[n], shadow[n]);
}

static bool same(const struct native *native, const struct hv_vcpu *vcpu, uint64_t undefined)
{
	if ((native->flags ^ vcpu->rflags) & (ARITHMETIC | RFLAGS_DF) & ~undefined)
		return false;
	for (unsigned n = 0; n < 16; n++)
		if (n != GPR_RSP && native->gpr[n] != vcpu->gpr[n])
			return false;
	return memcmp(memory, shadow, MEMORY) == 0;
}

/* 1 agreed, 0 not comparable, -1 differ */
static int try_one(unsigned long *faults)
{
	struct emulate_env env = { .read = read_memory, .write = write_memory, .compare_exchange = exchange_memory };
	struct example x;
	struct native native;
	struct hv_vcpu vcpu;
	enum emulate_result result;
	uint64_t undefined;
	int number;

	random_example(&x);
	undefined = x.undefined;
	memcpy(code, x.bytes, x.length);
	memcpy(shadow, memory, MEMORY);
	set_up(&vcpu, &x.state);
	result = emulate_instruction(&vcpu, &env);
	if (!shift_is_defined(&x, &vcpu, &undefined) || result == EMULATE_STOP)
		return 0; /* undefined result; or an address outside the memory */
	native = x.state;
	number = run_native(&native, x.bytes, x.length);
	if (number == SIGFPE && result == EMULATE_FAULT && vcpu.inject.vector == VECTOR_DE) {
		(*faults)++;
		return memcmp(&x.state.gpr, vcpu.gpr, sizeof(vcpu.gpr)) == 0 ? 1 : -1;
	}
	/* A misaligned CMPXCHG16B; LOCK with CMP. */
	if (number == SIGSEGV && result == EMULATE_FAULT && vcpu.inject.vector == VECTOR_GP)
		return 1;
	if (number == SIGILL && result == EMULATE_FAULT && vcpu.inject.vector == VECTOR_UD)
		return 1;
	if (number == 0 && result == EMULATE_DONE && same(&native, &vcpu, undefined) &&
	    vcpu.rip == (uintptr_t)code + x.length)
		return 1;
	show(&x, &native, &vcpu, number, result, undefined);
	return -1;
}

static void test_against_processor(void **state)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_NODEFER };
	const char *wanted = getenv("QUIRE_NATIVE_CASES"), *given = getenv("QUIRE_SEED");
	unsigned long cases = wanted ? strtoul(wanted, NULL, 0) : 60000, agreed = 0, wrong = 0, tried = 0, faults = 0;
	uint64_t start = given ? strtoull(given, NULL, 0) : UINT64_C(0xdecade);

	/* cmocka has set its own for this test. */
	sigaction(SIGFPE, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGILL, &action, NULL);
	seed = start;
	while (agreed < cases && wrong < 10) {
		int outcome = try_one(&faults);

		tried++;
		agreed += outcome > 0;
		wrong += outcome < 0;
	}
	print_message("%lu of %lu cases comparable, %lu division faults; seed %#lx\n", agreed, tried, faults, start);
	assert_int_equal(wrong, 0);
	assert_true(agreed * 10 > tried * 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_against_processor) };

	code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (code == MAP_FAILED || memory == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests_name("emulate against the processor", tests, NULL, NULL);
}
