/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The short way for what nearly every access to a device is: MOV, MOVZX or MOVSX between a register, or an immediate,
 * and memory, in 64-bit mode or in flat 32-bit segments, with nothing special about it.
 *
 * What is left out is left to emulate.c, which also defines what is right: this file may refuse anything, and must do what it
 * does not refuse in the very same way. So it only takes states in which most rules have nothing to say: no trap,
 * shadow, alignment check or resume flag, flat segments, and code and data each within one page. All checks come before the
 * access, and the registers change after it.
 *
 * A header, so that it is compiled together with its environment: vm/vcpu/mmio.c for machines, and the unit test's.
 */
#pragma once

#include "vm/emulate/decode_cache.h"
#include "vm/emulate/gpr.h"

/* Any status but OK: nothing has been done that a second try would notice. */
struct quick_env {
	/* HV_CODE_*; 0: in doubt. */
	unsigned (*code)(void *context);
	/* The INSTRUCTION_MAX bytes at a linear address, all in one page, with the rights of a fetch. */
	enum status (*fetch)(void *context, gva_t where, uint8_t *bytes);
	/* One access of 1, 2, 4 or 8 bytes within one page. The value has no bits above them. */
	enum status (*access)(void *context, gva_t where, unsigned size, bool write, uint64_t *value);
};

#define QUICK_SPECIAL_FLAGS (RFLAGS_TF | RFLAGS_RF | RFLAGS_VM | RFLAGS_AC)

/* What decode_slot.user holds: kind, register and size of the access. */
enum quick_kind {
	QUICK_UNKNOWN,
	QUICK_REFUSED,
	QUICK_STORE,
	QUICK_STORE_IMMEDIATE,
	QUICK_LOAD,
	QUICK_ZERO_EXTEND,
	QUICK_SIGN_EXTEND
};
#define QUICK_PLAN(kind, reg, size) ((uint32_t)(kind) | (uint32_t)(reg) << 8 | (uint32_t)(size) << 16)
#define QUICK_PLAN_KIND(plan) ((enum quick_kind)((plan)&0xff))
#define QUICK_PLAN_REG(plan) ((plan) >> 8 & 0xff)
#define QUICK_PLAN_SIZE(plan) ((plan) >> 16)

static inline enum quick_kind quick_kind_of(const struct instruction *i)
{
	unsigned opcode = i->opcode;

	if (i->encoding != ENCODING_LEGACY || !i->memory || (i->prefixes & (PREFIX_LOCK | PREFIX_REP)))
		return QUICK_REFUSED;
	if (i->map == MAP_ONE_BYTE) {
		if ((opcode & 0xfc) == 0x88) /* MOV r/m, reg; MOV reg, r/m */
			return opcode & 2 ? QUICK_LOAD : QUICK_STORE;
		if ((opcode & 0xfc) == 0xa0) /* MOV rAX, moffs; MOV moffs, rAX */
			return opcode & 2 ? QUICK_STORE : QUICK_LOAD;
		return (opcode & 0xfe) == 0xc6 && !instruction_group(i) ? QUICK_STORE_IMMEDIATE : QUICK_REFUSED;
	}
	if (i->map != MAP_0F || (opcode & 0xf6) != 0xb6)
		return QUICK_REFUSED;
	return opcode & 8 ? QUICK_SIGN_EXTEND : QUICK_ZERO_EXTEND;
}

/* In 32-bit mode, what only long addresses do without; a flat segment refuses nothing. DS is known to be one. */
static inline bool quick_flat(struct hv_vcpu *vcpu, unsigned name)
{
	const struct segment *s = &vcpu->segment[name];

	if (likely(name == SEG_DS))
		return true;
	hv_need(vcpu, REGS_OF_SEGMENT(name));
	return !s->base && s->limit == HV_FLAT_LIMIT && (s->attributes & HV_FLAT_MASK) == HV_FLAT_DATA;
}

static inline bool quick_within_page(uint64_t linear, unsigned size)
{
	return (linear & (PAGE_SIZE - 1)) + size <= PAGE_SIZE;
}

/* The mode, and the linear address of the instruction; false: not one for us. */
static inline bool quick_begin(struct hv_vcpu *vcpu, unsigned code, enum decode_mode *mode, uint64_t *linear)
{
	hv_need(vcpu, REGS_RFLAGS | REGS_SHADOW);
	*linear = vcpu->rip;
	*mode = code & HV_CODE_64 ? DECODE_64 : DECODE_32;
	return likely((code & (HV_CODE_64 | HV_CODE_FLAT)) && !(vcpu->rflags & QUICK_SPECIAL_FLAGS) &&
		      !vcpu->interrupt_shadow && quick_within_page(*linear, INSTRUCTION_MAX) &&
		      (*mode == DECODE_64 || !(*linear >> 32)));
}

/* The linear address of the operand. false: not one for us. */
static inline bool quick_operand(struct hv_vcpu *vcpu, const struct instruction *i, enum decode_mode mode,
				 unsigned size, uint64_t *linear)
{
	*linear = effective_address(i, vcpu->gpr, vcpu->rip + i->length);
	if (unlikely(!quick_within_page(*linear, size)))
		return false;
	/* Canonical for 48 bits is so for 57 as well. */
	return mode == DECODE_64 ? (uint64_t)((int64_t)*linear >> 47) + 1 <= 1 : quick_flat(vcpu, i->segment);
}

/* What the processor has fetched if it tells, like emulate.c; false: not one for us. */
static inline bool quick_bytes(struct hv_vcpu *vcpu, const struct quick_env *env, void *context, uint64_t linear,
			       uint8_t *bytes)
{
	if (likely(!vcpu->exit.byte_count))
		return env->fetch(context, gva(linear), bytes) == OK;
	__builtin_memcpy(bytes, vcpu->exit.bytes, INSTRUCTION_MAX);
	return vcpu->exit.byte_count == INSTRUCTION_MAX;
}

/* What is to be done for this instruction, or that it is none for us. Depends on nothing else, so the cache keeps it. */
static inline uint32_t quick_make_plan(const struct instruction *i)
{
	enum quick_kind kind = quick_kind_of(i);
	unsigned size = i->opcode & 1 ? i->operand_size : 1, reg = i->has_modrm ? i->reg : GPR_RAX;

	if (kind >= QUICK_ZERO_EXTEND)
		size = i->opcode & 1 ? 2 : 1;
	/* RSP is not fetched; and register 4 may be AH: let the one who knows tell them apart. */
	if (i->base == GPR_RSP || i->segment > SEG_DS || (kind != QUICK_STORE_IMMEDIATE && reg == GPR_RSP))
		kind = QUICK_REFUSED;
	return QUICK_PLAN(kind, reg, size);
}

static inline void quick_finish_load(struct hv_vcpu *vcpu, const struct instruction *i, enum quick_kind kind,
				     unsigned size, unsigned reg, uint64_t value)
{
	if (kind == QUICK_SIGN_EXTEND)
		value = (uint64_t)((int64_t)(value << (64 - 8 * size)) >> (64 - 8 * size));
	gpr_write(vcpu->gpr, reg, kind == QUICK_LOAD ? size : i->operand_size, i->rex_given, value);
}

/*
 * True: the instruction at cs:rip is done, as emulate_instruction() would have done it. False: it is not such a one, or
 * something is in doubt; nothing has changed but accessed and dirty bits, and emulate_instruction() is to do it.
 */
static inline __attribute__((always_inline)) bool emulate_quick(struct hv_vcpu *vcpu, const struct quick_env *env,
								void *context, struct decode_cache *decoded)
{
	uint8_t bytes[INSTRUCTION_MAX + 1];
	const struct instruction *i;
	struct decode_slot *slot;
	enum decode_mode mode;
	enum quick_kind kind;
	uint64_t linear, value = 0;
	unsigned size, reg;

	if (!quick_begin(vcpu, env->code(context), &mode, &linear) || !quick_bytes(vcpu, env, context, linear, bytes))
		return false;
	slot = decode_cached(decoded, bytes, mode, linear);
	if (unlikely(!slot))
		return false;
	i = &slot->instruction;
	if (unlikely(!slot->user))
		slot->user = quick_make_plan(i);
	kind = QUICK_PLAN_KIND(slot->user);
	reg = QUICK_PLAN_REG(slot->user);
	size = QUICK_PLAN_SIZE(slot->user);
	if (kind == QUICK_REFUSED || !quick_operand(vcpu, i, mode, size, &linear))
		return false;
	if (kind == QUICK_STORE)
		value = gpr_read(vcpu->gpr, reg, size, i->rex_given);
	else if (kind == QUICK_STORE_IMMEDIATE)
		value = i->immediate & byte_mask(size);
	if (env->access(context, gva(linear), size, kind < QUICK_LOAD, &value) != OK)
		return false;
	if (kind >= QUICK_LOAD)
		quick_finish_load(vcpu, i, kind, size, reg, value);
	vcpu->rip = mode == DECODE_64 ? vcpu->rip + i->length : (uint32_t)(vcpu->rip + i->length);
	vcpu->exit.byte_count = 0;
	return true;
}
