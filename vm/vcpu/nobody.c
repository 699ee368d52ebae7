/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the emulator doesn't know: arithmetic on x87 and vector registers, XSAVE, far transfers and the like. On memory that
 * nobody answers, and on ROM, they must do what they do on a PC all the same: read ones, write nothing.
 *
 * A read goes back to the processor: the page becomes a ROM of ones, which is what it is, and the instruction runs by
 * itself. The machine pays a frame for it, so there are few of these. A store is stepped over, if storing is all
 * that the instruction does; what it would have written to RAM before the page's beginning is not written. On a device's registers
 * nothing of this holds: the machine ends, and the instruction is named.
 */
#include <string.h>

#include "arch/x86_64/host.h"
#include "lib/format.h"
#include "pgm/handlers.h"
#include "vm/vcpu/vcpu.h"

#define MOST_PAGES 16u

/* The guest's state is in its area between these two, all of it, whatever XCR0 it has chosen. */
static uint64_t open_fpu(const struct vcpu *vcpu)
{
	uint64_t xcr0 = host_xcr0() ? xgetbv(0) : 0;

	if (xcr0)
		xsetbv(0, host_xcr0());
	host_fpu_save(vcpu->fpu);
	return xcr0;
}

static void close_fpu(const struct vcpu *vcpu, uint64_t xcr0)
{
	host_fpu_restore(vcpu->fpu);
	if (xcr0)
		xsetbv(0, xcr0);
}

void vcpu_vector(void *context, unsigned number, bool write, uint8_t value[VECTOR_MAX])
{
	struct vcpu *vcpu = context;
	uint64_t xcr0 = open_fpu(vcpu);

	host_fpu_vector(vcpu->fpu, number, write, value);
	close_fpu(vcpu, xcr0);
}

/* What an instruction does but write; those of x87 are enum host_x87. */
enum what { POPS = HOST_X87_POP, MASKS = HOST_X87_MASK, RESETS = HOST_X87_RESET, STORES, NAMED };

/* Map, first and last opcode, a bit for each ModRM.reg that the line is for, prefixes that it must have. */
struct known {
	uint8_t map, first, last, groups, prefix, what;
	char name[16];
};

#define ANY 0xff
static const struct known known[] = {
	{ MAP_ONE_BYTE, 0xd9, 0xd9, BIT(2) | BIT(7), 0, STORES, "FST" },
	{ MAP_ONE_BYTE, 0xd9, 0xd9, BIT(3), 0, POPS, "FSTP" },
	{ MAP_ONE_BYTE, 0xd9, 0xd9, BIT(6), 0, MASKS, "FNSTENV" },
	{ MAP_ONE_BYTE, 0xdd, 0xdd, BIT(6), 0, RESETS, "FNSAVE" },
	{ MAP_ONE_BYTE, 0xdb, 0xdb, BIT(2), 0, STORES, "FIST" },
	{ MAP_ONE_BYTE, 0xdb, 0xdb, BIT(1) | BIT(3) | BIT(7), 0, POPS, "FISTP" },
	{ MAP_ONE_BYTE, 0xdd, 0xdd, BIT(2) | BIT(7), 0, STORES, "FST" },
	{ MAP_ONE_BYTE, 0xdd, 0xdd, BIT(1) | BIT(3), 0, POPS, "FSTP" },
	{ MAP_ONE_BYTE, 0xdf, 0xdf, BIT(2), 0, STORES, "FIST" },
	{ MAP_ONE_BYTE, 0xdf, 0xdf, BIT(1) | BIT(3) | BIT(6) | BIT(7), 0, POPS, "FISTP" },
	{ MAP_ONE_BYTE, 0xd8, 0xdf, ANY, 0, NAMED, "an x87" },
	{ MAP_0F, 0x00, 0x00, BIT(0) | BIT(1), 0, STORES, "SLDT or STR" },
	{ MAP_0F, 0x01, 0x01, BIT(0) | BIT(1) | BIT(4), 0, STORES, "SGDT to SMSW" },
	{ MAP_0F, 0xae, 0xae, BIT(0) | BIT(3) | BIT(4) | BIT(6), 0, STORES, "XSAVE" },
	{ MAP_0F, 0xae, 0xae, BIT(1) | BIT(2) | BIT(5), 0, NAMED, "XRSTOR" },
	{ MAP_0F, 0xc7, 0xc7, BIT(4) | BIT(5), 0, STORES, "XSAVEC" },
	{ MAP_0F, 0x11, 0x2b, ANY, 0, STORES, "a move" }, /* with a mask: what else is in there reads */
	{ MAP_0F, 0x7e, 0x7f, ANY, 0, STORES, "a move" },
	{ MAP_0F, 0xd6, 0xe7, ANY, 0, STORES, "a move" },
	{ MAP_0F, 0xf7, 0xf7, ANY, 0, STORES, "MASKMOVDQU" },
	{ MAP_0F38, 0x2e, 0x2f, ANY, PREFIX_OPERAND, STORES, "VMASKMOV" },
	{ MAP_0F38, 0x8e, 0x8e, ANY, PREFIX_OPERAND, STORES, "VPMASKMOV" },
	{ MAP_0F38, 0xf8, 0xf9, ANY, 0, STORES, "MOVDIR" },
	{ MAP_0F38, 0xf0, 0xf1, ANY, PREFIX_REPNE, NAMED, "CRC32" },
	{ MAP_0F3A, 0x14, 0x1d, ANY, PREFIX_OPERAND, STORES, "an extraction" },
	{ MAP_0F3A, 0x39, 0x3b, ANY, PREFIX_OPERAND, STORES, "an extraction" },
	{ MAP_ONE_BYTE, 0xff, 0xff, BIT(3) | BIT(5), 0, NAMED, "a far branch" },
	{ MAP_ONE_BYTE, 0xc8, 0xcf, ANY, 0, NAMED, "ENTER to IRET" },
	{ MAP_ONE_BYTE, 0x8e, 0x8e, ANY, 0, NAMED, "MOV to SREG" },
	{ MAP_0F, 0x02, 0x03, ANY, 0, NAMED, "LAR or LSL" },
};

static const struct known *look_up(const struct instruction *i)
{
	for (unsigned n = 0; n < ARRAY_SIZE(known); n++) {
		const struct known *k = &known[n];

		if (k->map == i->map && i->opcode >= k->first && i->opcode <= k->last &&
		    (i->prefixes & k->prefix) == k->prefix && (!i->has_modrm || k->groups >> instruction_group(i) & 1))
			return k;
	}
	return NULL;
}

static enum exit_action give_up(struct vcpu *vcpu, const struct emulate_env *env, const struct known *k)
{
	char bytes[15 * 3 + 1] = "";

	for (unsigned i = 0; i < env->byte_count && i < 15; i++)
		format_string(bytes + 3 * i, sizeof(bytes) - 3 * i, " %02x", env->bytes[i]);
	return vcpu_fails(vcpu, "instruction not emulated:%s (%s) at rip %#lx, on gpa %#lx", bytes,
			  k ? k->name : "no move", vcpu->hv->rip, vcpu->hv->exit.slat.gpa.v);
}

/* The page becomes what it reads as. Other vcpus may be doing the same: then it is there. */
static enum status make_ones(struct machine *m, gpa_t page)
{
	uint8_t ones[128];
	enum status status;

	if (__atomic_fetch_add(&m->pages_of_ones, 1, __ATOMIC_RELAXED) >= MOST_PAGES)
		return LIMIT;
	status = pgm_add_rom(m->pgm, page, PAGE_SIZE, "nobody's, read");
	memset(ones, 0xff, sizeof(ones));
	for (unsigned at = 0; at < PAGE_SIZE && status == OK; at += sizeof(ones))
		status = pgm_rom_load(m->pgm, gpa(page.v + at), ones, sizeof(ones));
	return status;
}

static void step_over(struct vcpu *vcpu, const struct known *k, uint8_t length)
{
	if (k->what < STORES) {
		uint64_t xcr0 = open_fpu(vcpu);

		host_fpu_x87(vcpu->fpu, (enum host_x87)k->what);
		close_fpu(vcpu, xcr0);
	}
	vcpu->hv->exit.length = length;
	(void)vcpu_skip(vcpu); /* the length is known, so nothing is fetched */
}

enum exit_action exit_unhandled(struct vcpu *vcpu, struct emulate_env *env)
{
	const struct hv_exit *exit = &vcpu->hv->exit;
	gpa_t page = gpa(exit->slat.gpa.v & ~(PAGE_SIZE - 1));
	struct pgm_handler_info handler;
	const struct known *k = NULL;
	struct instruction i;
	struct pgm_range range;
	bool there;

	if (emulate_decode(vcpu->hv, env, &i) == EMULATE_DONE)
		k = look_up(&i);
	if (exit->kind != EXIT_SLAT_FAULT || pgm_handler_find(vcpu->machine->pgm, page, &handler))
		return give_up(vcpu, env, k);
	there = pgm_range_find(vcpu->machine->pgm, page, &range);
	if ((exit->slat.access & ACCESS_WRITE) && (!there || range.type == PAGE_ROM) && k && k->what != NAMED) {
		step_over(vcpu, k, i.length);
		return ACTION_ENTER;
	}
	if (!(exit->slat.access & ACCESS_WRITE) && !there && make_ones(vcpu->machine, page) == OK)
		return ACTION_ENTER;
	return give_up(vcpu, env, k);
}
