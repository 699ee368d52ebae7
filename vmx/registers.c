/* SPDX-License-Identifier: Apache-2.0 */
/* Register groups: fetched from the VMCS when someone needs them, written back when someone changed them. */
#include "arch/x86_64/features.h"
#include "mm/map.h"
#include "vmx/convert.h"
#include "vmx/instructions.h"
#include "vmx/vmx.h"

/* RFLAGS that an entry accepts, section 27.3.1.4: bit 1 set, the reserved ones clear. */
#define RFLAGS_DEFINED UINT64_C(0x3f7fd5)
#define RFLAGS_FIXED UINT64_C(2)
/* Of DEBUGCTL a guest gets LBR and BTF; the rest traces into memory or freezes counters. */
#define DEBUGCTL_GUEST (DEBUGCTL_LBR | DEBUGCTL_BTF)
#define BLOCKING_SHADOW ((uint32_t)(BLOCKING_STI | BLOCKING_MOV_SS))

static void load_rflags(struct vmx_vcpu *v)
{
	v->hv.rflags = vmcs_read(VMCS_GUEST_RFLAGS);
}

static void write_rflags(struct vmx_vcpu *v)
{
	vmcs_write(VMCS_GUEST_RFLAGS, (v->hv.rflags & RFLAGS_DEFINED) | RFLAGS_FIXED);
}

static void load_rsp(struct vmx_vcpu *v)
{
	v->hv.gpr[GPR_RSP] = vmcs_read(VMCS_GUEST_RSP);
}

static void write_rsp(struct vmx_vcpu *v)
{
	vmcs_write(VMCS_GUEST_RSP, v->hv.gpr[GPR_RSP]);
}

static void load_control(struct vmx_vcpu *v)
{
	vmx_load_control(&v->hv);
}

static inline void load_segment(struct vmx_vcpu *v, enum segment_name i)
{
	const struct vmx_segment raw = {
		.base = vmcs_read_hot(VMCS_SEGMENT(VMCS_GUEST_ES_BASE, i)),
		.limit = (uint32_t)vmcs_read_hot(VMCS_SEGMENT(VMCS_GUEST_ES_LIMIT, i)),
		.rights = (uint32_t)vmcs_read_hot(VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, i)),
		.selector = (uint16_t)vmcs_read_hot(VMCS_SEGMENT(VMCS_GUEST_ES_SELECTOR, i)),
	};

	v->hv.segment[i] = vmx_segment_unpack(&raw);
}

static void write_segment(struct vmx_vcpu *v, enum segment_name i)
{
	struct vmx_segment raw = vmx_segment_pack(i, &v->hv.segment[i], v->hv.efer & EFER_LMA);

	vmcs_write(VMCS_SEGMENT(VMCS_GUEST_ES_BASE, i), raw.base);
	vmcs_write(VMCS_SEGMENT(VMCS_GUEST_ES_LIMIT, i), raw.limit);
	vmcs_write(VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, i), raw.rights);
	vmcs_write(VMCS_SEGMENT(VMCS_GUEST_ES_SELECTOR, i), raw.selector);
}

static void load_code(struct vmx_vcpu *v)
{
	load_segment(v, SEG_CS);
	load_segment(v, SEG_SS);
}

static void write_code(struct vmx_vcpu *v)
{
	write_segment(v, SEG_CS);
	write_segment(v, SEG_SS);
}

static void load_data(struct vmx_vcpu *v)
{
	load_segment(v, SEG_DS);
	load_segment(v, SEG_ES);
}

static void write_data(struct vmx_vcpu *v)
{
	write_segment(v, SEG_DS);
	write_segment(v, SEG_ES);
}

static void load_others(struct vmx_vcpu *v)
{
	for (unsigned i = SEG_FS; i < SEG_COUNT; i++)
		load_segment(v, (enum segment_name)i);
	v->hv.gdtr.base = vmcs_read(VMCS_GUEST_GDTR_BASE);
	v->hv.gdtr.limit = (uint16_t)vmcs_read(VMCS_GUEST_GDTR_LIMIT);
	v->hv.idtr.base = vmcs_read(VMCS_GUEST_IDTR_BASE);
	v->hv.idtr.limit = (uint16_t)vmcs_read(VMCS_GUEST_IDTR_LIMIT);
}

static void write_others(struct vmx_vcpu *v)
{
	for (unsigned i = SEG_FS; i < SEG_COUNT; i++)
		write_segment(v, (enum segment_name)i);
	vmcs_write(VMCS_GUEST_GDTR_BASE, v->hv.gdtr.base);
	vmcs_write(VMCS_GUEST_GDTR_LIMIT, v->hv.gdtr.limit);
	vmcs_write(VMCS_GUEST_IDTR_BASE, v->hv.idtr.base);
	vmcs_write(VMCS_GUEST_IDTR_LIMIT, v->hv.idtr.limit);
}

static void load_debug(struct vmx_vcpu *v)
{
	vmx_lazy_read_debug(v);
	v->hv.dr[7] = vmcs_read(VMCS_GUEST_DR7);
	v->hv.debugctl = vmcs_read(VMCS_GUEST_DEBUGCTL);
}

static void write_debug(struct vmx_vcpu *v)
{
	vmx_lazy_write_debug(v);
	vmcs_write(VMCS_GUEST_DR7, v->hv.dr[7] & BITS(31, 0));
	vmcs_write(VMCS_GUEST_DEBUGCTL, v->hv.debugctl & DEBUGCTL_GUEST);
}

static void load_system(struct vmx_vcpu *v)
{
	vmx_lazy_read_msrs(v);
	v->hv.sysenter_cs = vmcs_read(VMCS_GUEST_SYSENTER_CS);
	v->hv.sysenter_esp = vmcs_read(VMCS_GUEST_SYSENTER_ESP);
	v->hv.sysenter_eip = vmcs_read(VMCS_GUEST_SYSENTER_EIP);
	v->hv.spec_ctrl = v->spec_ctrl.guest.value;
	if (vmx_capability.pat)
		v->hv.pat = vmcs_read(VMCS_GUEST_PAT);
}

/*
 * SPEC_CTRL of a guest that uses it goes by the processor's own lists: stored and exchanged for the host's before the host's
 * first instruction, and without one of ours for guests that don't (Intel SDM vol. 3 sections 25.7.2, 25.8.2).
 */
void vmx_write_spec_ctrl(struct vmx_vcpu *v)
{
	uint64_t count, list = direct_address(&v->spec_ctrl).v;

	v->spec_ctrl.on |= v->hv.spec_ctrl != 0; /* of L2, whose L1 alone has been passed it */
	count = v->spec_ctrl.on;
	v->spec_ctrl.guest = (struct vmx_msr_entry){ .msr = MSR_SPEC_CTRL, .value = v->hv.spec_ctrl };
	v->spec_ctrl.host = (struct vmx_msr_entry){ .msr = MSR_SPEC_CTRL, .value = features.host_spec_ctrl };
	vmcs_write(VMCS_ENTRY_MSR_LOAD_COUNT, count);
	vmcs_write(VMCS_EXIT_MSR_STORE_COUNT, count);
	vmcs_write(VMCS_EXIT_MSR_LOAD_COUNT, count);
	if (!count)
		return;
	vmcs_write(VMCS_ENTRY_MSR_LOAD_ADDRESS, list + offsetof(struct vmx_spec_ctrl, guest));
	vmcs_write(VMCS_EXIT_MSR_STORE_ADDRESS, list + offsetof(struct vmx_spec_ctrl, guest));
	vmcs_write(VMCS_EXIT_MSR_LOAD_ADDRESS, list + offsetof(struct vmx_spec_ctrl, host));
}

static void write_system(struct vmx_vcpu *v)
{
	vmx_lazy_write_msrs(v);
	vmcs_write(VMCS_GUEST_SYSENTER_CS, v->hv.sysenter_cs);
	vmcs_write(VMCS_GUEST_SYSENTER_ESP, v->hv.sysenter_esp);
	vmcs_write(VMCS_GUEST_SYSENTER_EIP, v->hv.sysenter_eip);
	vmx_write_spec_ctrl(v);
	if (vmx_capability.pat)
		vmcs_write(VMCS_GUEST_PAT, v->hv.pat);
}

static void load_shadow(struct vmx_vcpu *v)
{
	v->blocking = (uint32_t)vmcs_read(VMCS_GUEST_INTERRUPTIBILITY);
	v->hv.interrupt_shadow = v->blocking & BLOCKING_SHADOW;
	v->hv.nmi_blocked = v->blocking & BLOCKING_NMI;
}

/*
 * Which of the two shadows it was is kept where it still can be: that of STI needs IF set (section 27.3.1.5).
 * Under a shadow a single step must already be pending, and without TF none may be. Blocking by SMI is never kept.
 */
static void write_shadow(struct vmx_vcpu *v)
{
	uint64_t rflags = vmcs_read(VMCS_GUEST_RFLAGS), pending;
	uint32_t blocking = v->hv.nmi_blocked ? BLOCKING_NMI : 0;

	if (v->hv.interrupt_shadow)
		blocking |= (rflags & RFLAGS_IF) && !(v->blocking & BLOCKING_MOV_SS) ? BLOCKING_STI : BLOCKING_MOV_SS;
	vmcs_write(VMCS_GUEST_INTERRUPTIBILITY, blocking);
	v->blocking = blocking;
	if (!v->hv.interrupt_shadow)
		return;
	pending = vmcs_read(VMCS_GUEST_PENDING_DEBUG) & ~PENDING_DEBUG_BS;
	if ((rflags & RFLAGS_TF) && !(vmcs_read(VMCS_GUEST_DEBUGCTL) & DEBUGCTL_BTF))
		pending |= PENDING_DEBUG_BS;
	vmcs_write(VMCS_GUEST_PENDING_DEBUG, pending);
}

/*
 * By bit number of the group, which is also the order of writing: the shadow depends on RFLAGS and DEBUGCTL, segments
 * on EFER (which is always there).
 */
static const struct {
	void (*load)(struct vmx_vcpu *v);
	void (*write)(struct vmx_vcpu *v);
} groups_list[] = {
	{ load_rflags, write_rflags }, { load_rsp, write_rsp },     { load_control, vmx_write_control },
	{ load_others, write_others }, { load_debug, write_debug }, { load_system, write_system },
	{ load_shadow, write_shadow }, { load_code, write_code },   { load_data, write_data },
};

_Static_assert(REGS_RFLAGS == BIT(0) && REGS_RSP == BIT(1) && REGS_CONTROL == BIT(2) && REGS_OTHERS == BIT(3) &&
		       REGS_DEBUG == BIT(4) && REGS_SYSTEM == BIT(5) && REGS_SHADOW == BIT(6) && REGS_CODE == BIT(7) &&
		       REGS_DATA == BIT(8),
	       "the list's order");
_Static_assert(REGS_ALL == BIT(ARRAY_SIZE(groups_list)) - 1, "the list has them all");

/* What an MMIO exit asks for at once. */
#define GROUPS_OF_MMIO (REGS_CONTROL | REGS_CODE)

void vmx_load(struct hv_vcpu *vcpu, uint32_t groups)
{
	uint32_t missing = groups & ~vcpu->valid & REGS_ALL;

	if (!vmx_of(vcpu)->ready)
		vmx_make_current(vmx_of(vcpu));
	vcpu->valid |= missing;
	if ((missing & GROUPS_OF_MMIO) == GROUPS_OF_MMIO) {
		vmx_load_control(vcpu);
		load_code(vmx_of(vcpu));
		missing &= ~GROUPS_OF_MMIO;
	}
	for (; missing; missing &= missing - 1)
		groups_list[__builtin_ctz(missing)].load(vmx_of(vcpu));
}

void vmx_write_back(struct vmx_vcpu *v)
{
	uint32_t changed = v->hv.changed, groups = changed & REGS_ALL;

	if (changed & CHANGED_RESET) {
		vmcs_write(VMCS_GUEST_PENDING_DEBUG, 0);
		vmcs_write(VMCS_ENTRY_EVENT, 0); /* of an entry that failed */
		if (!hpa_is_none(v->mirror))
			vmx_mirror_show(v, false);
	}
	for (; groups; groups &= groups - 1)
		groups_list[__builtin_ctz(groups)].write(v);
	if (changed & CHANGED_SLAT)
		vmcs_write(VMCS_EPT_POINTER, vmx_ept_pointer(v));
	v->hv.changed = 0;
}

/* The rights of a segment that is present and usable. */
#define FLAT_RIGHTS (RIGHTS_UNUSABLE | HV_FLAT_MASK)

/* What the host owns of the control registers is right in hv_vcpu; segments are looked at in the VMCS. */
unsigned vmx_code(const struct hv_vcpu *vcpu)
{
	unsigned paged = vcpu->cr0 & CR0_PG ? HV_CODE_PAGED : 0;
	uint64_t rights;

	if (unlikely(vcpu->changed || !(vcpu->cr0 & CR0_PE)))
		return 0;
	rights = vmcs_read_hot(VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_CS));
	if ((vcpu->efer & EFER_LMA) && (rights & SEG_ATTR_L))
		return HV_CODE_64 | paged;
	if (!(rights & SEG_ATTR_DB) || vmcs_read_hot(VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_CS)) ||
	    vmcs_read_hot(VMCS_SEGMENT(VMCS_GUEST_ES_LIMIT, SEG_CS)) != HV_FLAT_LIMIT ||
	    vmcs_read_hot(VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_DS)) ||
	    vmcs_read_hot(VMCS_SEGMENT(VMCS_GUEST_ES_LIMIT, SEG_DS)) != HV_FLAT_LIMIT ||
	    (vmcs_read_hot(VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_DS)) & FLAT_RIGHTS) != HV_FLAT_DATA)
		return 0;
	return HV_CODE_FLAT | paged;
}
