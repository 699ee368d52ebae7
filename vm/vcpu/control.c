/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control registers: what a guest may write, and what follows from it: long mode switched on and off,
 * PDPTEs loaded, translations flushed. The checks are the processor's own (some emulated
 * processors leave them out), made before anything changes.
 *
 * Manual: Intel SDM vol. 3 sections 2.5, 4.1.2, 4.4.1, 4.10.4.1; vol. 2 MOV to CR; AMD APM vol. 2 section 3.1.
 */
#include "dev/apic/lapic.h"
#include "pgm/walk.h"
#include "vm/vcpu/nested.h"

#define CR0_VALID (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
/* What reloads the PDPTEs in PAE paging when it changes. */
#define CR0_PDPTE (CR0_PG | CR0_CD | CR0_NW)
#define CR4_PDPTE (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)
#define SYSTEM_TYPE 0xfu
#define TYPE_TSS_16_BUSY 3u
#define CR0_FLUSH (CR0_PG | CR0_PE | CR0_WP | CR0_CD | CR0_NW)

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

/* Under AMD's nested paging no PDPTEs are held, so none are judged when CR3 is loaded. */
static bool load_pdptes(struct vcpu *vcpu, uint64_t cr3)
{
	gpa_t table = gpa(cr3 & ~vcpu->a20_mask);

	if (hv_capabilities.slat == SLAT_NPT)
		return true;
	/* L1's tables refuse: as an access that isn't there. */
	if (vcpu_outer(vcpu) && !vcpu_through_outer(vcpu, &table))
		return false;
	return guest_load_pdptes(vcpu->machine->pgm, table.v, cpuid_physical_bits(vcpu->machine->cpuid),
				 vcpu->hv->pdpte) == OK;
}

/*
 * Paging switched on with EFER.LME set: SDM vol. 3 section 10.8.5. Intel's processors refuse a 16-bit TSS, too, with which VMX
 * would refuse the entry.
 */
static bool may_enter_long_mode(const struct hv_vcpu *h)
{
	if (hv_capabilities.slat == SLAT_EPT && (h->segment[SEG_TR].attributes & SYSTEM_TYPE) <= TYPE_TSS_16_BUSY)
		return false;
	return (h->cr4 & CR4_PAE) && !(h->segment[SEG_CS].attributes & SEG_ATTR_L);
}

/* false: #GP. */
static bool write_cr0_guest(struct vcpu *vcpu, uint64_t value)
{
	struct hv_vcpu *h = vcpu->hv;
	uint64_t changed, efer = h->efer;

	if (value >> 32)
		return false;
	value = vcpu_nested_control(vcpu, 0, (value & CR0_VALID) | CR0_ET);
	changed = value ^ h->cr0;
	if (((value & CR0_PG) && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD)) ||
	    !vcpu_nested_allows(vcpu, value, h->cr4))
		return false;
	if ((changed & CR0_PG) && (value & CR0_PG) && (efer & EFER_LME)) {
		if (!may_enter_long_mode(h))
			return false;
		efer |= EFER_LMA;
	}
	if ((changed & CR0_PG) && !(value & CR0_PG)) {
		if (h->cr4 & CR4_PCIDE)
			return false;
		efer &= ~EFER_LMA;
	}
	if (pae_paging(value, h->cr4, efer) && (changed & CR0_PDPTE) && !load_pdptes(vcpu, h->cr3))
		return false;
	if (changed & CR0_FLUSH)
		h->flush_pending = true;
	if (changed & (CR0_PG | CR0_PE))
		vcpu->guest_mode_changes++;
	h->cr0 = value;
	h->efer = efer;
	return true;
}

bool vcpu_write_cr3(struct vcpu *vcpu, uint64_t value)
{
	struct hv_vcpu *h = vcpu->hv;
	bool keep = false;

	if (h->efer & EFER_LMA) {
		if ((h->cr4 & CR4_PCIDE) && (value & BIT(63))) {
			keep = true;
			value &= ~BIT(63);
		}
		if (value >> cpuid_physical_bits(vcpu->machine->cpuid))
			return false;
	} else {
		value &= BITS(31, 0);
		if (pae_paging(h->cr0, h->cr4, h->efer) && !load_pdptes(vcpu, value))
			return false;
	}
	h->cr3 = value;
	if (!keep)
		h->flush_pending = true;
	return true;
}

static bool write_cr4_guest(struct vcpu *vcpu, uint64_t value)
{
	struct hv_vcpu *h = vcpu->hv;
	uint64_t changed;

	value = vcpu_nested_control(vcpu, 4, value);
	changed = value ^ h->cr4;
	if ((value & ~cpuid_limit(vcpu->machine->cpuid, CPUID_CR4)) || !vcpu_nested_allows(vcpu, h->cr0, value))
		return false;
	if ((h->efer & EFER_LMA) && (!(value & CR4_PAE) || (changed & CR4_LA57)))
		return false;
	if ((changed & CR4_PCIDE) && (value & CR4_PCIDE) && (!(h->efer & EFER_LMA) || (h->cr3 & BITS(11, 0))))
		return false;
	if (pae_paging(h->cr0, value, h->efer) && (changed & CR4_PDPTE)) {
		uint64_t old = h->cr4;

		h->cr4 = value;
		if (!load_pdptes(vcpu, h->cr3)) {
			h->cr4 = old;
			return false;
		}
	}
	h->cr4 = value;
	if (changed)
		h->flush_pending = true;
	return true;
}

/* CR8 is the local APIC's TPR. */
static bool write_priority(struct vcpu *vcpu, uint64_t value)
{
	if (value >> 4)
		return false;
	lapic_set_cr8(vcpu->lapic, value);
	return true;
}

static bool write_control(struct vcpu *vcpu, unsigned number, uint64_t value)
{
	switch (number) {
	case 0: return write_cr0_guest(vcpu, value);
	case 3: return vcpu_write_cr3(vcpu, value);
	case 4: return write_cr4_guest(vcpu, value);
	default: return write_priority(vcpu, value);
	}
}

static uint64_t read_control(struct vcpu *vcpu, unsigned number)
{
	switch (number) {
	case 0: return vcpu->hv->cr0;
	case 3: return vcpu->hv->cr3;
	case 4: return vcpu->hv->cr4;
	default: return lapic_cr8(vcpu->lapic);
	}
}

/* CR moves: ModRM.reg names the control register, ModRM.rm the general one; LMSW is 0F 01 /6, CLTS 0F 06. */
static bool complete_cr(struct vcpu *vcpu)
{
	struct hv_exit *exit = &vcpu->hv->exit;
	struct emulate_env env;
	struct instruction in;

	if (!vcpu_decode(vcpu, &in))
		return false;
	exit->length = in.length;
	exit->cr.clts = in.opcode == 0x06;
	exit->cr.lmsw = in.opcode == 0x01;
	if (exit->cr.lmsw) {
		vcpu_emulate_env(vcpu, &env);
		if (emulate_read_word(vcpu->hv, &env, &exit->cr.lmsw_source) != EMULATE_DONE)
			return false;
	} else if (!exit->cr.clts) {
		exit->cr.gpr = (uint8_t)((in.modrm & 7) | (in.rex & REX_B ? 8 : 0));
	}
	exit->cr.decoded = true;
	return true;
}

static uint64_t cr0_by_lmsw(uint64_t cr0, uint16_t source)
{
	/* LMSW sets PE but never clears it (SDM vol. 2 LMSW). */
	return (cr0 & ~(CR0_MP | CR0_EM | CR0_TS)) | (source & (CR0_PE | CR0_MP | CR0_EM | CR0_TS));
}

enum exit_action exit_cr_access(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	struct hv_exit *exit = &h->exit;
	bool ok = true, wide;

	hv_need(h, REGS_CONTROL | REGS_SEGMENTS | REGS_RSP);
	if (!exit->cr.decoded && !complete_cr(vcpu))
		return ACTION_ENTER;
	wide = hv_in_64_bit(h);
	if (exit->cr.clts) {
		h->cr0 = vcpu_nested_control(vcpu, 0, h->cr0 & ~CR0_TS);
	} else if (exit->cr.lmsw) {
		ok = write_cr0_guest(vcpu, cr0_by_lmsw(h->cr0, exit->cr.lmsw_source));
	} else if (exit->cr.write) {
		uint64_t value = h->gpr[exit->cr.gpr];

		ok = write_control(vcpu, exit->cr.number, wide ? value : value & BITS(31, 0));
	} else {
		h->gpr[exit->cr.gpr] = read_control(vcpu, exit->cr.number);
		hv_changed(h, REGS_RSP);
	}
	if (!ok)
		return vcpu_inject_gp(vcpu);
	hv_changed(h, REGS_CONTROL);
	return exit_skip(vcpu);
}

/* XCR0 rules: Intel SDM vol. 1 section 13.3. */
static bool xcr0_valid(uint64_t value, uint64_t allowed)
{
	if ((value & ~allowed) || !(value & 1) || ((value & BIT(2)) && !(value & BIT(1))))
		return false;
	if ((value & BITS(7, 5)) && ((value & BITS(7, 5)) != BITS(7, 5) || !(value & BIT(2))))
		return false;
	return true;
}

enum exit_action exit_xsetbv(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	uint64_t value = (h->gpr[GPR_RDX] << 32) | (h->gpr[GPR_RAX] & BITS(31, 0));

	hv_need(h, REGS_CONTROL | REGS_SEGMENTS);
	if (!(h->cr4 & CR4_OSXSAVE))
		return vcpu_inject_ud(vcpu);
	if ((h->gpr[GPR_RCX] & BITS(31, 0)) || SEG_ATTR_DPL(h->segment[SEG_SS].attributes) ||
	    !xcr0_valid(value, cpuid_limit(vcpu->machine->cpuid, CPUID_XCR0)))
		return vcpu_inject_gp(vcpu);
	h->xcr0 = value;
	xsetbv(0, value);
	return exit_skip(vcpu);
}
