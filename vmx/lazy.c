/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers that a guest leaves in the processor: the SYSCALL MSRs, KERNEL_GS_BASE, DR0 to DR3 and DR6. The host kernel
 * uses none of them, and outside a guest with its DR7 they do nothing, so they are exchanged only when another vcpu
 * comes to run on this CPU, and only where the two differ. cpu->lazy_owner says whose they are.
 *
 * And the MSR bitmap (Intel SDM vol. 3 section 25.6.9), which lets the guest touch only what an entry, or this file,
 * switches.
 */
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "mm/map.h"
#include "vmx/convert.h"
#include "vmx/instructions.h"
#include "vmx/vmx.h"

/* canonical: the processor faults on any other value. width: bits that WRMSR takes. */
static const struct {
	uint32_t msr;
	uint16_t offset;
	bool canonical;
	uint64_t mask;
} lazy_msrs[] = {
	{ MSR_STAR, offsetof(struct hv_vcpu, star), false, ~UINT64_C(0) },
	{ MSR_LSTAR, offsetof(struct hv_vcpu, lstar), true, ~UINT64_C(0) },
	{ MSR_CSTAR, offsetof(struct hv_vcpu, cstar), true, ~UINT64_C(0) },
	{ MSR_SFMASK, offsetof(struct hv_vcpu, sfmask), false, BITS(31, 0) },
	{ MSR_KERNEL_GS_BASE, offsetof(struct hv_vcpu, kernel_gs_base), true, ~UINT64_C(0) },
};

_Static_assert(ARRAY_SIZE(lazy_msrs) == VMX_LAZY_MSRS, "each is kept when its owner goes");

static inline uint64_t *place(struct vmx_vcpu *v, unsigned i)
{
	return (uint64_t *)((char *)&v->hv + lazy_msrs[i].offset);
}

static inline bool owns(const struct vmx_vcpu *v)
{
	return vmx_cpus[cpu_index()].lazy_owner == v;
}

/* What the struct holds is newer than the processor's while its group is marked as changed. */
static inline void read_msrs(struct vmx_vcpu *v)
{
	if (unlikely(v->hv.changed & REGS_SYSTEM))
		return;
#pragma GCC unroll 5
	for (unsigned i = 0; i < VMX_LAZY_MSRS; i++)
		*place(v, i) = rdmsr(lazy_msrs[i].msr);
}

static inline void read_debug(struct vmx_vcpu *v)
{
	if (likely(!(v->hv.changed & REGS_DEBUG)))
		debug_registers_read(v->hv.dr);
}

void vmx_lazy_read_msrs(struct vmx_vcpu *v)
{
	if (owns(v))
		read_msrs(v);
}

void vmx_lazy_read_debug(struct vmx_vcpu *v)
{
	if (owns(v))
		read_debug(v);
}

/*
 * The rooms above let nothing else through; should they, it is the guest that is surprised. The width is what the processor can do,
 * whatever CR4.LA57 says.
 */
static __attribute__((noinline)) void write_msr(unsigned i, uint64_t value)
{
	wrmsr(lazy_msrs[i].msr,
	      vmx_msr_value(value, lazy_msrs[i].mask, lazy_msrs[i].canonical ? features.linear_bits : 0));
}

void vmx_lazy_write_msrs(struct vmx_vcpu *v)
{
	for (unsigned i = 0; i < VMX_LAZY_MSRS; i++)
		write_msr(i, *place(v, i));
}

void vmx_lazy_write_debug(const struct vmx_vcpu *v)
{
	debug_registers_write(v->hv.dr);
}

static inline void release(struct vmx_cpu *cpu)
{
	struct vmx_vcpu *v = cpu->lazy_owner;

	read_msrs(v);
	read_debug(v);
	cpu->left.known = ~v->hv.changed; /* what was changed never got into the processor */
#pragma GCC unroll 5
	for (unsigned i = 0; i < VMX_LAZY_MSRS; i++)
		cpu->left.msr[i] = *place(v, i);
#pragma GCC unroll 7
	for (unsigned i = 0; i <= 6; i++)
		cpu->left.dr[i] = v->hv.dr[i];
	cpu->lazy_owner = NULL;
	vmx_not_ready(v);
}

void vmx_lazy_release(struct vmx_vcpu *v)
{
	struct vmx_cpu *cpu = &vmx_cpus[cpu_index()];

	if (cpu->lazy_owner == v)
		release(cpu);
}

static inline bool debug_differs(const uint64_t a[8], const uint64_t b[8])
{
	return (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[6] ^ b[6]);
}

void vmx_lazy_acquire(struct vmx_vcpu *v)
{
	struct vmx_cpu *cpu = &vmx_cpus[cpu_index()];

	if (cpu->lazy_owner == v)
		return;
	if (cpu->lazy_owner)
		release(cpu);
	cpu->lazy_owner = v;
	if (unlikely(!(cpu->left.known & REGS_SYSTEM)))
		vmx_lazy_write_msrs(v);
	else
#pragma GCC unroll 5
		for (unsigned i = 0; i < VMX_LAZY_MSRS; i++)
			if (cpu->left.msr[i] != *place(v, i))
				write_msr(i, *place(v, i));
	if (!(cpu->left.known & REGS_DEBUG) || debug_differs(cpu->left.dr, v->hv.dr))
		vmx_lazy_write_debug(v);
}

void vmx_lazy_hand_over(struct vmx_vcpu *from, struct vmx_vcpu *to)
{
	struct vmx_cpu *cpu = &vmx_cpus[cpu_index()];

	to->spec_ctrl.guest.value = to->hv.spec_ctrl = from->spec_ctrl.guest.value;
	if (cpu->lazy_owner == from) {
		cpu->lazy_owner = to;
		return;
	}
	for (unsigned i = 0; i < VMX_LAZY_MSRS; i++)
		*place(to, i) = *place(from, i);
	memcpy(to->hv.dr, from->hv.dr, sizeof(to->hv.dr)); /* DR7 is its VMCS's, and not valid here */
}

/* MSRs whose guest value is in the processor while the guest runs, or that only command. */
static const struct {
	uint32_t msr;
	bool read, write;
} passable[] = {
	{ MSR_STAR, true, true },         { MSR_LSTAR, true, true },          { MSR_CSTAR, true, true },
	{ MSR_SFMASK, true, true },       { MSR_KERNEL_GS_BASE, true, true }, { MSR_FS_BASE, true, true },
	{ MSR_GS_BASE, true, true },      { MSR_SYSENTER_CS, true, true },    { MSR_SYSENTER_ESP, true, true },
	{ MSR_SYSENTER_EIP, true, true }, { MSR_EFER, true, false },          { MSR_PAT, true, true },
	{ MSR_SPEC_CTRL, true, true },    { MSR_PRED_CMD, false, true },      { MSR_FLUSH_CMD, false, true },
};

#define MSR_HIGH_FIRST 0xc0000000u
#define MSR_BITMAP_RANGE 0x2000u /* MSRs of each range */
#define MSR_BITMAP_HIGH 0x400u   /* byte offsets in the page */
#define MSR_BITMAP_WRITE 0x800u

/* Of an MSR in one of the two ranges. */
#define BITMAP_BYTE(msr, write)                                                                                        \
	(((write) ? MSR_BITMAP_WRITE : 0) + ((msr) >= MSR_HIGH_FIRST ? MSR_BITMAP_HIGH : 0) +                          \
	 (msr) % MSR_BITMAP_RANGE / 8)

unsigned vmx_msr_bitmap_byte(uint32_t msr, bool write)
{
	return BITMAP_BYTE(msr, write);
}

/* Where all of the passable ones are; and what of a page that is, in whole words. */
#define PASSABLE_AT(X) X(MSR_SPEC_CTRL) X(MSR_FLUSH_CMD) X(MSR_SYSENTER_CS) X(MSR_PAT) X(MSR_STAR) X(MSR_FS_BASE)
#define READ_BYTE(msr) BITMAP_BYTE(msr, 0),
static const uint16_t passable_byte[] = { PASSABLE_AT(READ_BYTE) };

#define LOW_SIZE 0x50u
#define HIGH_AT (MSR_BITMAP_HIGH + 0x10u)
#define HIGH_SIZE 0x18u
const struct hv_nested_part vmx_msr_bitmap_parts[] = { { 0, LOW_SIZE },
						       { HIGH_AT, HIGH_SIZE },
						       { MSR_BITMAP_WRITE, LOW_SIZE },
						       { MSR_BITMAP_WRITE + HIGH_AT, HIGH_SIZE } };
#define IS_IN_PARTS(msr) &&(BITMAP_BYTE(msr, 0) < LOW_SIZE || BITMAP_BYTE(msr, 0) - HIGH_AT < HIGH_SIZE)
_Static_assert(1 PASSABLE_AT(IS_IN_PARTS), "what is merged has been read");

/* One bit: 1 exits. */
static void set_exit(uint8_t *bitmap, uint32_t msr, bool write, bool exits)
{
	uint8_t *byte = bitmap + vmx_msr_bitmap_byte(msr, write);
	uint8_t bit = (uint8_t)(1u << msr % 8);

	*byte = exits ? *byte | bit : *byte & (uint8_t)~bit;
}

bool vmx_msr_bitmap_exits(const uint8_t *bitmap, uint32_t msr, bool write)
{
	bool covered = msr < MSR_BITMAP_RANGE || msr - MSR_HIGH_FIRST < MSR_BITMAP_RANGE;

	return !covered || (bitmap[vmx_msr_bitmap_byte(msr, write)] >> msr % 8 & 1);
}

/* All other bytes of either are, and stay, all ones. */
void vmx_msr_bitmap_merge(const struct vmx_vcpu *v, const struct vmx_vcpu *outer, const uint8_t *wanted)
{
	uint8_t *to = direct_pointer(v->msr_bitmap);
	const uint8_t *from = direct_pointer(outer->msr_bitmap);

	for (unsigned i = 0; i < ARRAY_SIZE(passable_byte); i++) {
		unsigned read = passable_byte[i], write = read + MSR_BITMAP_WRITE;

		to[read] = wanted ? from[read] | wanted[read] : 0xff;
		to[write] = wanted ? from[write] | wanted[write] : 0xff;
	}
}

void vmx_pass_msr(struct hv_vcpu *vcpu, uint32_t msr, bool read, bool write)
{
	uint8_t *bitmap = direct_pointer(vmx_of(vcpu)->msr_bitmap);

	if (msr == MSR_PAT && !vmx_capability.pat)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(passable); i++) {
		if (passable[i].msr != msr)
			continue;
		set_exit(bitmap, msr, false, !(read && passable[i].read));
		set_exit(bitmap, msr, true, !(write && passable[i].write));
	}
	if (msr == MSR_SPEC_CTRL)
		vmx_of(vcpu)->spec_ctrl.on = write;
}

void vmx_msr_bitmap_init(const struct vmx_vcpu *v)
{
	memset(direct_pointer(v->msr_bitmap), 0xff, PAGE_SIZE);
}
