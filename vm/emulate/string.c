/* SPDX-License-Identifier: Apache-2.0 */
/*
 * String instructions and their repetition. One element is one step: it reads, writes, then moves RSI and RDI; RCX
 * follows each step, so that a fault or a yield in the middle leaves registers that continue the work, as the manual
 * demands (Intel SDM vol. 2, REP). Flags of a comparison that ends in a fault are not kept.
 */
#include "vm/emulate/internal.h"

#define MOST_ITERATIONS 4096u

static void advance(struct emulation *e, unsigned number)
{
	unsigned width = e->instruction.address_size;
	uint64_t step = e->flags & RFLAGS_DF ? -(uint64_t)e->size : e->size;

	write_gpr(e, number, width, e->vcpu->gpr[number] + step);
}

/* Where DS:RSI, or what overrides DS, and ES:RDI point. */
static enum emulate_result string_address(struct emulation *e, unsigned number, unsigned access, gva_t *linear)
{
	return linear_address(e, number == GPR_RSI ? e->instruction.segment : SEG_ES,
			      read_gpr(e, number, e->instruction.address_size), e->size, access, linear);
}

static enum emulate_result read_by(struct emulation *e, unsigned number, uint64_t *value)
{
	gva_t linear;

	*value = 0;
	TRY(string_address(e, number, ACCESS_READ, &linear));
	return read_linear(e, linear, value, e->size, ACCESS_READ);
}

static enum emulate_result write_destination(struct emulation *e, uint64_t value)
{
	gva_t linear;

	TRY(string_address(e, GPR_RDI, ACCESS_WRITE, &linear));
	return write_linear(e, linear, &value, e->size);
}

static enum emulate_result move_step(struct emulation *e)
{
	uint64_t value;

	TRY(read_by(e, GPR_RSI, &value));
	TRY(write_destination(e, value));
	advance(e, GPR_RSI);
	advance(e, GPR_RDI);
	return EMULATE_DONE;
}

static enum emulate_result store_step(struct emulation *e)
{
	TRY(write_destination(e, read_gpr(e, GPR_RAX, e->size)));
	advance(e, GPR_RDI);
	return EMULATE_DONE;
}

static enum emulate_result load_step(struct emulation *e)
{
	uint64_t value;

	TRY(read_by(e, GPR_RSI, &value));
	write_gpr(e, GPR_RAX, e->size, value);
	advance(e, GPR_RSI);
	return EMULATE_DONE;
}

static enum emulate_result compare_step(struct emulation *e)
{
	uint64_t a, b;

	TRY(read_by(e, GPR_RSI, &a));
	TRY(read_by(e, GPR_RDI, &b));
	(void)alu_binary(ALU_CMP, e->size, a, b, &e->flags);
	advance(e, GPR_RSI);
	advance(e, GPR_RDI);
	return EMULATE_DONE;
}

static enum emulate_result scan_step(struct emulation *e)
{
	uint64_t value;

	TRY(read_by(e, GPR_RDI, &value));
	(void)alu_binary(ALU_CMP, e->size, read_gpr(e, GPR_RAX, e->size), value, &e->flags);
	advance(e, GPR_RDI);
	return EMULATE_DONE;
}

/* What the port gives is gone once read, so whether memory takes it is asked first: on each page, that is enough. */
static enum emulate_result input_step(struct emulation *e)
{
	uint64_t last;
	uint32_t value;
	gva_t linear;

	TRY(string_address(e, GPR_RDI, ACCESS_WRITE, &linear));
	last = (linear.v + e->size - 1) >> PAGE_SHIFT;
	if (linear.v >> PAGE_SHIFT != e->seen || last != e->seen) {
		TRY(read_linear(e, linear, &value, e->size, ACCESS_READ | ACCESS_WRITE));
		e->seen = last;
	}
	value = e->env->port_in(e->env->context, (uint16_t)e->vcpu->gpr[GPR_RDX], e->size);
	TRY(write_linear(e, linear, &value, e->size));
	advance(e, GPR_RDI);
	return EMULATE_DONE;
}

static enum emulate_result output_step(struct emulation *e)
{
	uint64_t value;

	TRY(read_by(e, GPR_RSI, &value));
	e->env->port_out(e->env->context, (uint16_t)e->vcpu->gpr[GPR_RDX], e->size, (uint32_t)value);
	advance(e, GPR_RSI);
	return EMULATE_DONE;
}

/* Whether a comparison's outcome ends the repetition: F3 goes on while equal, F2 while not. */
static bool comparison_ends(const struct emulation *e)
{
	return !(e->flags & RFLAGS_ZF) == !(e->instruction.prefixes & PREFIX_REPNE);
}

static enum emulate_result repeat(struct emulation *e, emulate_handler *step, bool compares)
{
	unsigned width = e->instruction.address_size;
	unsigned left = e->vcpu->rflags & RFLAGS_TF ? 1 : MOST_ITERATIONS;

	if (!(e->instruction.prefixes & PREFIX_REP))
		return step(e);
	for (;;) {
		uint64_t count = read_gpr(e, GPR_RCX, width);

		if (count == 0)
			return EMULATE_DONE;
		TRY(step(e));
		write_gpr(e, GPR_RCX, width, count - 1);
		if (count == 1 || (compares && comparison_ends(e)))
			return EMULATE_DONE;
		if (--left == 0) {
			e->next_rip = e->vcpu->rip;
			return EMULATE_DONE;
		}
	}
}

/* A4 to AF, but TEST at A8. */
enum emulate_result emulate_string(struct emulation *e)
{
	static emulate_handler *const steps[6] = { move_step, compare_step, NULL, store_step, load_step, scan_step };
	unsigned kind = (e->instruction.opcode - 0xa4u) / 2;

	return repeat(e, steps[kind], steps[kind] == compare_step || steps[kind] == scan_step);
}

/* INS and OUTS. */
enum emulate_result emulate_port_string(struct emulation *e)
{
	if (e->size == 8)
		e->size = 4;
	e->seen = ~UINT64_C(0);
	TRY(check_port(e, (uint16_t)e->vcpu->gpr[GPR_RDX], e->size));
	return repeat(e, e->instruction.opcode & 2 ? output_step : input_step, false);
}
