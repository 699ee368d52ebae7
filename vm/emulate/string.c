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

static enum emulate_result source_address(struct emulation *e, gva_t *linear)
{
	return linear_address(e, e->instruction.segment, read_gpr(e, GPR_RSI, e->instruction.address_size), e->size,
			      ACCESS_READ, linear);
}

static enum emulate_result destination_address(struct emulation *e, unsigned access, gva_t *linear)
{
	return linear_address(e, SEG_ES, read_gpr(e, GPR_RDI, e->instruction.address_size), e->size, access, linear);
}

static enum emulate_result read_source(struct emulation *e, uint64_t *value)
{
	gva_t linear;
	enum emulate_result result = source_address(e, &linear);

	*value = 0;
	return result == EMULATE_DONE ? read_linear(e, linear, value, e->size, ACCESS_READ) : result;
}

static enum emulate_result read_destination(struct emulation *e, uint64_t *value)
{
	gva_t linear;
	enum emulate_result result = destination_address(e, ACCESS_READ, &linear);

	*value = 0;
	return result == EMULATE_DONE ? read_linear(e, linear, value, e->size, ACCESS_READ) : result;
}

static enum emulate_result write_destination(struct emulation *e, uint64_t value)
{
	gva_t linear;
	enum emulate_result result = destination_address(e, ACCESS_WRITE, &linear);

	return result == EMULATE_DONE ? write_linear(e, linear, &value, e->size) : result;
}

static enum emulate_result move_step(struct emulation *e)
{
	uint64_t value;
	enum emulate_result result = read_source(e, &value);

	if (result == EMULATE_DONE)
		result = write_destination(e, value);
	if (result != EMULATE_DONE)
		return result;
	advance(e, GPR_RSI);
	advance(e, GPR_RDI);
	return EMULATE_DONE;
}

static enum emulate_result store_step(struct emulation *e)
{
	enum emulate_result result = write_destination(e, read_gpr(e, GPR_RAX, e->size));

	if (result == EMULATE_DONE)
		advance(e, GPR_RDI);
	return result;
}

static enum emulate_result load_step(struct emulation *e)
{
	uint64_t value;
	enum emulate_result result = read_source(e, &value);

	if (result != EMULATE_DONE)
		return result;
	write_gpr(e, GPR_RAX, e->size, value);
	advance(e, GPR_RSI);
	return EMULATE_DONE;
}

static enum emulate_result compare_step(struct emulation *e)
{
	uint64_t a, b;
	enum emulate_result result = read_source(e, &a);

	if (result == EMULATE_DONE)
		result = read_destination(e, &b);
	if (result != EMULATE_DONE)
		return result;
	(void)alu_binary(ALU_CMP, e->size, a, b, &e->flags);
	advance(e, GPR_RSI);
	advance(e, GPR_RDI);
	return EMULATE_DONE;
}

static enum emulate_result scan_step(struct emulation *e)
{
	uint64_t value;
	enum emulate_result result = read_destination(e, &value);

	if (result != EMULATE_DONE)
		return result;
	(void)alu_binary(ALU_CMP, e->size, read_gpr(e, GPR_RAX, e->size), value, &e->flags);
	advance(e, GPR_RDI);
	return EMULATE_DONE;
}

/* What the port gives is gone once read, so whether memory takes it is asked first: on each page, that is enough. */
static enum emulate_result input_step(struct emulation *e)
{
	gva_t linear;
	enum emulate_result result = destination_address(e, ACCESS_WRITE, &linear);
	uint64_t first = linear.v >> PAGE_SHIFT, last = (linear.v + e->size - 1) >> PAGE_SHIFT;
	uint32_t value;

	if (result != EMULATE_DONE)
		return result;
	if (first != e->seen || last != e->seen) {
		result = read_linear(e, linear, &value, e->size, ACCESS_READ | ACCESS_WRITE);
		if (result != EMULATE_DONE)
			return result;
		e->seen = last;
	}
	value = e->env->port_in(e->env->context, (uint16_t)e->vcpu->gpr[GPR_RDX], e->size);
	result = write_linear(e, linear, &value, e->size);
	if (result == EMULATE_DONE)
		advance(e, GPR_RDI);
	return result;
}

static enum emulate_result output_step(struct emulation *e)
{
	uint64_t value;
	enum emulate_result result = read_source(e, &value);

	if (result != EMULATE_DONE)
		return result;
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
		enum emulate_result result;

		if (count == 0)
			return EMULATE_DONE;
		result = step(e);
		if (result != EMULATE_DONE)
			return result;
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
	enum emulate_result result;

	if (e->size == 8)
		e->size = 4;
	result = check_port(e, (uint16_t)e->vcpu->gpr[GPR_RDX], e->size);
	e->seen = ~UINT64_C(0);
	if (result != EMULATE_DONE)
		return result;
	return repeat(e, e->instruction.opcode & 2 ? output_step : input_step, false);
}
