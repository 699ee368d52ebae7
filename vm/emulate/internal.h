/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of vm/emulate share: the state of one emulation, operand access, faults, arithmetic.
 *
 * The order that keeps instructions precise: a handler first reads all its operands, then writes memory, and
 * touches registers only after that write has succeeded. Flags are changed in a copy, rip in next_rip; both
 * reach the vcpu only when the handler returns EMULATE_DONE.
 */
#pragma once

#include "vm/emulate/decode.h"
#include "vm/emulate/emulate.h"
#include "vm/emulate/gpr.h"

struct emulation;

typedef enum emulate_result emulate_handler(struct emulation *e);

struct operation {
	emulate_handler *execute; /* NULL: not in the subset */
	uint8_t lockable;         /* bit n: LOCK is allowed with ModRM.reg = n and a memory operand */
	bool byte_form;           /* an even opcode works on bytes */
	uint8_t detail;           /* the handler's own */
};

struct emulation {
	struct hv_vcpu *vcpu;
	struct emulate_env *env;
	const struct operation *operation;
	uint64_t flags, next_rip;
	gva_t linear;  /* of the r/m operand, once its address has been taken */
	uint64_t seen; /* what r/m held when it was read */
	enum decode_mode mode;
	uint8_t size;        /* of the operands: 1, 2, 4, 8 */
	bool typed_segments; /* protected mode: segment attributes count */
	bool locked;
	bool shadow; /* interrupts are held off after this instruction */
	struct instruction instruction;
	struct hv_event fault; /* as the environment gave it */
	uint64_t fault_address;
};

/* Internal result: another CPU changed the operand of a locked instruction meanwhile; run the handler again. */
#define EMULATE_RETRY ((enum emulate_result)(EMULATE_STOP + 1))

#define ARITHMETIC_FLAGS (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

/* The sign-extended low `size` bytes. */
static inline int64_t signed_value(uint64_t value, unsigned size)
{
	return (int64_t)(value << (64 - 8 * size)) >> (64 - 8 * size);
}

static inline bool is_canonical(const struct emulation *e, uint64_t address)
{
	return sign_extend(address, e->vcpu->cr4 & CR4_LA57 ? 57 : 48) == address;
}

static inline bool in_v86(const struct emulation *e)
{
	return (e->vcpu->rflags & RFLAGS_VM) && (e->vcpu->cr0 & CR0_PE);
}

static inline unsigned privilege_level(const struct emulation *e)
{
	if (!e->typed_segments)
		return in_v86(e) ? 3 : 0;
	return SEG_ATTR_DPL(e->vcpu->segment[SEG_SS].attributes);
}

/* ---- registers ---- */

static inline uint64_t read_gpr(const struct emulation *e, unsigned number, unsigned size)
{
	return gpr_read(e->vcpu->gpr, number, size, e->instruction.rex_given);
}

static inline void write_gpr(struct emulation *e, unsigned number, unsigned size, uint64_t value)
{
	gpr_write(e->vcpu->gpr, number, size, e->instruction.rex_given, value);
	if (unlikely(number == GPR_RSP) && (size > 1 || e->instruction.rex_given))
		hv_changed(e->vcpu, REGS_RSP);
}

/* The register in the opcode's low three bits. */
static inline unsigned opcode_register(const struct emulation *e)
{
	return (e->instruction.opcode & 7) | (e->instruction.rex & REX_B) << 3;
}

/* ---- emulate/memory.c ---- */

enum emulate_result raise_fault(struct emulation *e, unsigned vector, uint32_t error_code);
enum emulate_result raise_undefined(struct emulation *e);

/*
 * From segment and offset to a linear address, with all checks but paging: limit, type, canonical form, alignment.
 * access: ACCESS_*. #GP, #SS, #AC.
 */
enum emulate_result linear_address(struct emulation *e, unsigned segment, uint64_t offset, unsigned size,
				   unsigned access, gva_t *linear);
/* size up to 64 bytes. */
enum emulate_result read_linear(struct emulation *e, gva_t linear, void *to, unsigned size, unsigned access);
enum emulate_result write_linear(struct emulation *e, gva_t linear, const void *from, unsigned size);
/* The processor's own access to a descriptor table or TSS. */
enum emulate_result read_system(struct emulation *e, uint64_t linear, void *to, unsigned size);

/*
 * The r/m operand: register or memory. access READ, or READ|WRITE when write_rm follows. `offset` is added to the
 * memory operand's effective address.
 */
enum emulate_result read_rm_at(struct emulation *e, int64_t offset, unsigned size, unsigned access, uint64_t *value);
/* After read_rm with READ|WRITE. Atomic with respect to that read if the instruction is locked; may say RETRY. */
enum emulate_result write_rm(struct emulation *e, unsigned size, uint64_t value);
/* The r/m memory operand's address into e->linear, plus offset within its segment. */
enum emulate_result rm_address(struct emulation *e, int64_t offset, unsigned size, unsigned access);
/*
 * Writes `size` bytes (1 to 16, unused ones of both arrays 0) at e->linear; if the instruction is locked, only as long
 * as memory holds `expected`: RETRY otherwise.
 */
enum emulate_result exchange_linear(struct emulation *e, const uint64_t expected[2], const uint64_t desired[2],
				    unsigned size);
/* Writes r/m without reading it. */
enum emulate_result store_rm(struct emulation *e, unsigned size, uint64_t value);

static inline enum emulate_result read_rm(struct emulation *e, unsigned access, uint64_t *value)
{
	return read_rm_at(e, 0, e->size, access, value);
}

/* Writes at SS:RSP - size, and lowers RSP when that has succeeded. */
enum emulate_result push_value(struct emulation *e, uint64_t value, unsigned size);
/* Reads at SS:RSP; the caller raises RSP with drop_stack when all else has succeeded. */
enum emulate_result peek_stack(struct emulation *e, uint64_t *value, unsigned size);
/* The bits of RSP that SS gives to the stack. */
uint64_t stack_mask(const struct emulation *e);
/* RSP plus bytes, in the stack's width. */
uint64_t stack_after(const struct emulation *e, int64_t bytes);
static inline void set_stack(struct emulation *e, uint64_t rsp)
{
	write_gpr(e, GPR_RSP, 8, rsp);
}

/* next_rip becomes target, cut to size bytes, if CS allows it: #GP(0). */
enum emulate_result branch(struct emulation *e, uint64_t target, unsigned size);

/* ---- emulate/port.c ---- */

/* Whether CPL, IOPL and the TSS allow these ports: DONE or #GP(0). */
enum emulate_result check_port(struct emulation *e, uint16_t port, unsigned size);

/* ---- emulate/alu.c: values and flags only ---- */

/* SF, ZF and PF of a result. */
static inline uint64_t result_flags(unsigned size, uint64_t result)
{
	return (result >> (8 * size - 1) & 1 ? RFLAGS_SF : 0) | (result ? 0 : RFLAGS_ZF) |
	       (__builtin_parity(result & 0xff) ? 0 : RFLAGS_PF);
}

enum alu_operation { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };
enum shift_operation { SHIFT_ROL, SHIFT_ROR, SHIFT_RCL, SHIFT_RCR, SHIFT_SHL, SHIFT_SHR, SHIFT_SAL, SHIFT_SAR };

/* a and b have size bytes (1, 2, 4, 8), nothing above; so does the result. *flags is read for CF, and updated. */
uint64_t alu_binary(enum alu_operation operation, unsigned size, uint64_t a, uint64_t b, uint64_t *flags);
/* INC and DEC leave CF alone. */
uint64_t alu_increment(bool decrement, unsigned size, uint64_t a, uint64_t *flags);
/* count as given: it is masked here. */
uint64_t alu_shift(enum shift_operation operation, unsigned size, uint64_t a, unsigned count, uint64_t *flags);
/* SHLD and SHRD; size 2, 4, 8. */
uint64_t alu_double_shift(bool right, unsigned size, uint64_t a, uint64_t b, unsigned count, uint64_t *flags);
/* The double-width product of a and b, low half returned; CF and OF tell whether the high half matters. */
uint64_t alu_multiply(bool is_signed, unsigned size, uint64_t a, uint64_t b, uint64_t *high, uint64_t *flags);
/* high:low by divisor, all of size bytes. False: #DE. */
bool alu_divide(bool is_signed, unsigned size, uint64_t high, uint64_t low, uint64_t divisor, uint64_t *quotient,
		uint64_t *remainder);
/* The low nibble of the opcodes of Jcc, SETcc, CMOVcc. */
bool alu_condition(unsigned condition, uint64_t flags);

/* ---- emulate/table.c ---- */

extern const struct operation emulate_one_byte[256];
extern const struct operation emulate_0f[256];
/* 0F38 F0 and F1. */
extern const struct operation emulate_swapped;
/* Whatever has no line in those, by vector.c's own table. */
extern const struct operation emulate_vector;

/* ---- the handlers: emulate/move.c, emulate/arithmetic.c, emulate/bits.c, emulate/control.c, emulate/string.c, emulate/port.c ---- */

/* Left as it is, since the formatter moves it anew each time. */
/* clang-format off */
#define EMULATE_HANDLERS(X) \
	X(store) X(load) X(store_immediate) X(load_immediate) \
	X(load_extended) X(load_movsxd) X(load_address) X(exchange) X(exchange_accumulator) X(byte_swap) \
	X(translate) X(store_segment) X(load_segment) X(move_if) X(set_if) X(convert_accumulator) \
	X(convert_to_rdx) X(alu_to_rm) X(alu_to_reg) X(alu_to_accumulator) X(alu_immediate) X(test_rm) \
	X(test_accumulator) X(increment_reg) X(group_fe) X(group_f6) X(multiply_reg) X(multiply_immediate) \
	X(exchange_add) X(compare_exchange) X(group_c7) X(shift_rm) X(double_shift) X(bit_reg) \
	X(bit_immediate) X(bit_scan) X(count_bits) X(set_flag) X(load_flags) X(store_flags) X(push_reg) \
	X(pop_reg) X(push_immediate) X(pop_rm) X(push_flags) X(pop_flags) X(push_segment) X(jump_relative) \
	X(jump_if) X(call_relative) X(return_near) X(loop) X(leave) X(no_operation) \
	X(string) X(port_string) \
	X(input) X(output) X(move_swapped) X(move_vector) X(group_ae) X(enter) X(push_all)
/* clang-format on */

#define DECLARE_HANDLER(name) emulate_handler emulate_##name;
EMULATE_HANDLERS(DECLARE_HANDLER)
#undef DECLARE_HANDLER
