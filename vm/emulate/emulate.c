/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulator's frame: which mode the processor is in, fetch and decode, the handler, and what every completed
 * instruction does (rip, RF, interrupt shadow, single step). The handlers stand in emulate_*.c, emulate/table.c
 * assigns them. Called by vm/'s exit handling for a vcpu that belongs to this CPU; takes no lock.
 */
#include "vm/emulate/decode_cache.h"
#include "vm/emulate/internal.h"

/* All that decoding, addresses, rights and completion may look at. */
#define GROUPS_NEEDED (REGS_RFLAGS | REGS_RSP | REGS_CONTROL | REGS_CODE | REGS_SHADOW)

/* A locked instruction that loses against other CPUs this often goes back to the guest and comes again. */
#define MOST_TRIES 64u

static inline void begin(struct emulation *e, struct hv_vcpu *vcpu, struct emulate_env *env)
{
	uint16_t code;
	bool is_protected;

	hv_need(vcpu, GROUPS_NEEDED);
	e->vcpu = vcpu;
	e->env = env;
	e->flags = vcpu->rflags;
	e->locked = false;
	e->shadow = false;
	e->next_rip = vcpu->rip;
	is_protected = (vcpu->cr0 & CR0_PE) && !(vcpu->rflags & RFLAGS_VM);
	e->typed_segments = is_protected;
	code = vcpu->segment[SEG_CS].attributes;
	if (likely(is_protected && (vcpu->efer & EFER_LMA) && (code & SEG_ATTR_L)))
		e->mode = DECODE_64;
	else if (code & SEG_ATTR_DB)
		e->mode = DECODE_32;
	else
		e->mode = is_protected ? DECODE_16 : DECODE_REAL;
}

/*
 * Fetches up to `wanted` bytes of the instruction into env->bytes: `have` of them are there. Stops at the limit of CS;
 * *got says how many there are now.
 */
static inline enum emulate_result fetch(struct emulation *e, unsigned have, unsigned wanted, unsigned *got)
{
	const struct segment *code = &e->vcpu->segment[SEG_CS];
	uint64_t offset = e->vcpu->rip + have;
	gva_t linear;

	*got = have;
	if (e->mode != DECODE_64) {
		offset &= 0xffffffff;
		if (offset > code->limit)
			return raise_fault(e, VECTOR_GP, 0);
		if (code->limit - offset < wanted - have - 1)
			wanted = have + (unsigned)(code->limit - offset) + 1;
		linear = gva((uint32_t)(code->base + offset));
	} else {
		linear = gva(offset);
	}
	TRY(read_linear(e, linear, e->env->bytes + have, wanted - have, ACCESS_EXECUTE));
	*got = wanted;
	return EMULATE_DONE;
}

/* How many bytes, up to 15, lie between rip and the end of its page. */
static unsigned bytes_in_page(const struct emulation *e)
{
	uint64_t linear = e->vcpu->rip + (e->mode == DECODE_64 ? 0 : e->vcpu->segment[SEG_CS].base);
	uint64_t left = PAGE_SIZE - (linear & (PAGE_SIZE - 1));

	return left < INSTRUCTION_MAX ? (unsigned)left : INSTRUCTION_MAX;
}

static inline enum status decode_fetched(struct emulation *e, unsigned count)
{
	struct emulate_env *env = e->env;
	const struct decode_slot *slot = NULL;

	if (likely(env->decoded && count == INSTRUCTION_MAX))
		slot = decode_cached(env->decoded, env->bytes, e->mode, e->vcpu->rip);
	if (unlikely(!slot))
		return decode(env->bytes, count, e->mode, &e->instruction);
	e->instruction = slot->instruction;
	return OK;
}

/* Decodes what is in env->bytes, fetching more while it is too little and the next page is really needed. */
static enum emulate_result fetch_and_decode(struct emulation *e)
{
	const struct hv_exit *exit = &e->vcpu->exit;
	struct emulate_env *env = e->env;
	enum status status = TRUNCATED;
	unsigned count = 0;

	if (exit->byte_count) {
		count = exit->byte_count < INSTRUCTION_MAX ? exit->byte_count : INSTRUCTION_MAX;
		__builtin_memcpy(env->bytes, exit->bytes, sizeof(env->bytes));
		status = decode(env->bytes, count, e->mode, &e->instruction);
	}
	for (unsigned pass = 0; status == TRUNCATED && pass < 2; pass++) {
		unsigned page = bytes_in_page(e);

		env->byte_count = count;
		TRY(fetch(e, count, count < page ? page : INSTRUCTION_MAX, &count));
		status = decode_fetched(e, count);
	}
	env->byte_count = count;
	if (likely(status == OK)) {
		env->byte_count = e->instruction.length;
		return EMULATE_DONE;
	}
	/* TRUNCATED: the limit of CS ends it. */
	return status == BAD_FORMAT ? raise_undefined(e) : raise_fault(e, VECTOR_GP, 0);
}

static const struct operation *find_operation(const struct instruction *i)
{
	if (i->encoding != ENCODING_LEGACY)
		return &emulate_vector;
	if (i->map == MAP_ONE_BYTE)
		return &emulate_one_byte[i->opcode];
	if (i->map == MAP_0F && emulate_0f[i->opcode].execute)
		return &emulate_0f[i->opcode];
	return i->map == MAP_0F38 && (i->opcode & 0xfe) == 0xf0 ? &emulate_swapped : &emulate_vector;
}

static bool lock_allowed(const struct emulation *e)
{
	return e->instruction.memory && e->instruction.has_modrm &&
	       (e->operation->lockable >> instruction_group(&e->instruction)) & 1;
}

/* The instruction is done: what every one of them leaves behind. */
static void complete(struct emulation *e)
{
	struct hv_vcpu *vcpu = e->vcpu;
	uint64_t old = vcpu->rflags, start = vcpu->rip;

	vcpu->rip = e->mode == DECODE_64 ? e->next_rip : (uint32_t)e->next_rip;
	/* In the middle of a REP the breakpoint at it has been dealt with. SDM vol. 3 section 18.3.1.1. */
	if ((e->instruction.prefixes & PREFIX_REP) && e->next_rip == start)
		e->flags |= RFLAGS_RF;
	else
		e->flags &= ~RFLAGS_RF;
	if (e->flags != old) {
		vcpu->rflags = e->flags;
		hv_changed(vcpu, REGS_RFLAGS);
	}
	if (unlikely(vcpu->interrupt_shadow != e->shadow)) {
		vcpu->interrupt_shadow = e->shadow;
		hv_changed(vcpu, REGS_SHADOW);
	}
	vcpu->exit.byte_count = 0; /* those bytes belong to an instruction that is behind us */
	if (unlikely(old & RFLAGS_TF) && !e->shadow)
		emulate_single_step(vcpu);
}

enum emulate_result emulate_instruction(struct hv_vcpu *vcpu, struct emulate_env *env)
{
	struct emulation e;
	enum emulate_result result;

	begin(&e, vcpu, env);
	TRY(fetch_and_decode(&e));
	e.operation = find_operation(&e.instruction);
	if (unlikely(!e.operation || !e.operation->execute))
		return EMULATE_UNHANDLED;
	if (unlikely(e.instruction.prefixes & PREFIX_LOCK)) {
		if (!lock_allowed(&e))
			return raise_undefined(&e);
		e.locked = true;
	}
	e.next_rip = vcpu->rip + e.instruction.length;
	e.size = e.operation->byte_form && !(e.instruction.opcode & 1) ? 1 : e.instruction.operand_size;
	for (unsigned tries = 0; tries < MOST_TRIES; tries++) {
		e.flags = vcpu->rflags;
		result = e.operation->execute(&e);
		if (likely(result != EMULATE_RETRY))
			break;
	}
	if (likely(result == EMULATE_DONE))
		complete(&e);
	return result == EMULATE_RETRY ? EMULATE_DONE : result;
}

unsigned emulate_length(struct hv_vcpu *vcpu, struct emulate_env *env, enum emulate_result *result)
{
	struct emulation e;

	begin(&e, vcpu, env);
	*result = fetch_and_decode(&e);
	return *result == EMULATE_DONE ? e.instruction.length : 0;
}

enum emulate_result emulate_decode(struct hv_vcpu *vcpu, struct emulate_env *env, struct instruction *out)
{
	struct emulation e;

	begin(&e, vcpu, env);
	TRY(fetch_and_decode(&e));
	*out = e.instruction;
	return EMULATE_DONE;
}

enum emulate_result emulate_read_word(struct hv_vcpu *vcpu, struct emulate_env *env, uint16_t *word)
{
	struct emulation e;
	enum emulate_result result;
	uint64_t value = 0;

	begin(&e, vcpu, env);
	TRY(fetch_and_decode(&e));
	e.next_rip = vcpu->rip + e.instruction.length;
	e.size = 2;
	result = read_rm(&e, ACCESS_READ, &value);
	*word = (uint16_t)value;
	return result;
}
