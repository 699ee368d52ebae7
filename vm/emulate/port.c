/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IN and OUT, and the right to touch a port. Intel SDM vol. 1 section 19.5, vol. 3 section 7.2.1 (TSS).
 */
#include "vm/emulate/internal.h"

#define TSS_BITMAP_OFFSET 102u /* the 16-bit I/O map base, in 32- and 64-bit TSSs */
#define TSS_MINIMUM_LIMIT 103u
#define TSS_TYPE_32 0x8u /* clear: a 286 TSS, which has no bitmap */

enum emulate_result check_port(struct emulation *e, uint16_t port, unsigned size)
{
	const struct segment *tss = &e->vcpu->segment[SEG_TR];
	unsigned iopl = (e->vcpu->rflags >> RFLAGS_IOPL_SHIFT) & 3;
	uint16_t base, bits;
	uint32_t byte;

	if (!in_v86(e) && privilege_level(e) <= iopl)
		return EMULATE_DONE;
	hv_need(e->vcpu, REGS_OTHERS);
	if (!(tss->attributes & SEG_ATTR_PRESENT) || !(tss->attributes & TSS_TYPE_32) || tss->limit < TSS_MINIMUM_LIMIT)
		return raise_fault(e, VECTOR_GP, 0);
	TRY(read_system(e, tss->base + TSS_BITMAP_OFFSET, &base, 2));
	/* Two bytes are always read, so that a port's last byte may lie in the second one. */
	byte = base + port / 8u;
	if (byte + 1 > tss->limit)
		return raise_fault(e, VECTOR_GP, 0);
	TRY(read_system(e, tss->base + byte, &bits, 2));
	return (bits >> (port & 7)) & ((1u << size) - 1) ? raise_fault(e, VECTOR_GP, 0) : EMULATE_DONE;
}

/* E4 to E7 name the port in the instruction, EC to EF in DX; an odd opcode is word or doubleword. */
static uint16_t port_number(const struct emulation *e)
{
	return e->instruction.opcode & 8 ? (uint16_t)e->vcpu->gpr[GPR_RDX] : e->instruction.immediate & 0xff;
}

static unsigned port_size(const struct emulation *e)
{
	return e->size == 8 ? 4 : e->size;
}

enum emulate_result emulate_input(struct emulation *e)
{
	unsigned size = port_size(e);

	TRY(check_port(e, port_number(e), size));
	write_gpr(e, GPR_RAX, size, e->env->port_in(e->env->context, port_number(e), size));
	return EMULATE_DONE;
}

enum emulate_result emulate_output(struct emulation *e)
{
	unsigned size = port_size(e);

	TRY(check_port(e, port_number(e), size));
	e->env->port_out(e->env->context, port_number(e), size, (uint32_t)read_gpr(e, GPR_RAX, size));
	return EMULATE_DONE;
}
