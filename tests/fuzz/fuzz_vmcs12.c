/* SPDX-License-Identifier: Apache-2.0 */
// sources: vmx/exit.c vmx/convert.c vmx/failure.c vmx/nested/check.c vmx/nested/check_guest.c vmx/nested/check_segments.c vmx/nested/fields.c vmx/nested/offer.c vmx/nested/operand.c arch/x86_64/pt_format.c tests/unit/common/host.c tests/unit/common/heap.c
// flags: -lcmocka
/*
 * libFuzzer: a hypervisor as a guest that writes its VMCS as it likes, enters, is left for some reason, and enters again. What must hold
 * is that whatever VMCS12 says the VMCS that the processor gets is one that it takes: what is the host's is untouched in
 * it, exits and bitmaps are at least Quire's own and L1's, and its guest state passes the checks with the host's limits. The same of
 * VMCS01 afterwards. The bytes: a byte of options, then records (struct edit), of which one without a field enters or leaves.
 */
#include <stdio.h>

#include "vmx_nested_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOST_EPT_POINTER (UINT64_C(0x123000) | EPT_POINTER_WB | EPT_POINTER_LEVELS(4))
#define SENTINEL(field) (UINT64_C(0x5e47) << 32 | (field))
#define ROUNDS_MAX 6u

struct edit {
	uint8_t how, pad;
	uint16_t field;
	uint32_t low;
};

/* Written by no code of nested/'s, in either level: what the host's processor goes by alone. */
static const uint16_t untouched[] = { VMCS_PIN_CONTROLS,
				      VMCS_EXIT_CONTROLS,
				      VMCS_IO_BITMAP_A,
				      VMCS_IO_BITMAP_B,
				      VMCS_MSR_BITMAP,
				      VMCS_EXECUTIVE_POINTER,
				      VMCS_VIRTUAL_APIC_ADDRESS,
				      VMCS_PML_ADDRESS,
				      VMCS_VPID,
				      VMCS_EXIT_MSR_STORE_ADDRESS,
				      VMCS_TPR_THRESHOLD,
				      VMCS_CR3_TARGET_COUNT,
				      VMCS_EXIT_MSR_LOAD_ADDRESS,
				      VMCS_HOST_PAT,
				      VMCS_HOST_EFER,
				      VMCS_ENTRY_MSR_LOAD_ADDRESS,
				      VMCS_HOST_SYSENTER_CS };

#define must(condition) must_hold(condition, #condition)
static void must_hold(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "must hold: %s\n", what);
	abort();
}

static void each_untouched(void (*visit)(enum vmcs_field field))
{
	for (unsigned i = 0; i < ARRAY_SIZE(untouched); i++)
		visit((enum vmcs_field)untouched[i]);
	for (unsigned i = 0; i < 7; i++)
		visit(VMCS_SEGMENT(VMCS_HOST_ES_SELECTOR, i));
	for (unsigned i = 0; i < 12; i++)
		visit(VMCS_SEGMENT(VMCS_HOST_CR0, i));
}

static void mark(enum vmcs_field field)
{
	vmcs_of[0][field] = vmcs_of[1][field] = SENTINEL(field);
}

static void marked(enum vmcs_field field)
{
	must(vmcs_of[0][field] == SENTINEL(field) && vmcs_of[1][field] == SENTINEL(field));
}

static void open_fuzz(uint8_t options)
{
	host_shadows = options & 1;
	flips = false;
	open_world();
	each_untouched(mark);
	vmx_capability.entry = 0x11fb | ENTRYC_LOAD_EFER | ENTRYC_LOAD_PAT | ENTRYC_LOAD_DEBUG;
	vmx_capability.cr4_fixed1 = BITS(22, 0);
	vmcs_of[0][VMCS_SECONDARY_CONTROLS] = vmx_capability.secondary;
	for (unsigned i = 0; i < 2; i++) {
		vmcs_of[i][VMCS_LINK_POINTER] = ~UINT64_C(0);
		vmcs_of[i][VMCS_EPT_POINTER] = HOST_EPT_POINTER;
		vmcs_of[i][VMCS_PRIMARY_CONTROLS] = vmx_capability.primary;
		vmcs_of[i][VMCS_ENTRY_CONTROLS] = vmx_capability.entry | ENTRYC_IA32E;
		vmcs_of[i][VMCS_GUEST_EFER] = EFER_LME | EFER_LMA | EFER_NXE;
		vmcs_of[i][VMCS_GUEST_PAT] = 0x0007040600070406;
	}
	for (unsigned i = 0; i < 2; i++) {
		uint64_t *v = vmcs_of[i];

		v[VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_TR)] = 0x8b;
		v[VMCS_SEGMENT(VMCS_GUEST_ES_LIMIT, SEG_TR)] = 0x67;
		v[VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_LDTR)] = RIGHTS_UNUSABLE;
	}
	l1->slat_root = l2->slat_root = hpa(HOST_EPT_POINTER);
	vmx_pass_msr(l1, MSR_LSTAR, true, true);
	memset(l1_memory + 0xc000, options, L1_SIZE - 0xc000);
	memset(l1_memory + MSR_BITMAP_PAGE, options & 2 ? 0 : 0xff, PAGE_SIZE);
	switch_on();
	write_plain();
	must_write(VMCS_MSR_BITMAP, MSR_BITMAP_PAGE);
	must_write(VMCS_VIRTUAL_APIC_ADDRESS, VIRTUAL_APIC_PAGE);
	flips = options & 4;
}

/* What the processor would find: the level's VMCS with what is pending for it, as a VMCS12 of a host without limits but its own. */
static void assert_enterable(struct hv_vcpu *level)
{
	struct vmx_vcpu *v = vmx_of(level);
	union vmcs12 seen = { { 0 } };
	struct vmx_offer offer = { { 0 } };
	const struct vmx_check check = { .vmcs = &seen,
					 .offer = &offer,
					 .efer_valid = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE,
					 .physical_bits = 46,
					 .linear_bits = 48,
					 .long_mode = true };
	struct vmcs12_set all;
	uint32_t word;

	vmx_make_ready(v);
	if (level->changed)
		vmx_write_back(v);
	vmcs12_fields(&all, FIELD_EXISTS);
	FOR_SLOTS(slot, all)
	seen.field[slot] = vmcs[vmcs12_encoding((unsigned)slot)];
	for (unsigned msr = OFFER_FIRST; msr <= OFFER_LAST; msr++)
		offer.msr[msr - OFFER_FIRST] = BITS(63, 32);
	offer.msr[MSR_VMX_CR0_FIXED0 - OFFER_FIRST] = vmx_capability.cr0_fixed0;
	offer.msr[MSR_VMX_CR0_FIXED1 - OFFER_FIRST] = vmx_capability.cr0_fixed1;
	offer.msr[MSR_VMX_CR4_FIXED0 - OFFER_FIRST] = vmx_capability.cr4_fixed0;
	offer.msr[MSR_VMX_CR4_FIXED1 - OFFER_FIRST] = vmx_capability.cr4_fixed1;
	offer.msr[MSR_VMX_EPT_VPID - OFFER_FIRST] = EPT_ACCESSED_DIRTY;
	offer.msr[MSR_VMX_MISC - OFFER_FIRST] = MISC_NO_LENGTH;
	word = vmx_event_word(&level->inject, level->cr0 & CR0_PE);
	AT(&seen, ENTRY_EVENT) = word;
	AT(&seen, ENTRY_ERROR_CODE) = level->inject.error_code;
	AT(&seen, ENTRY_INSTRUCTION_LENGTH) = level->inject.length;
	AT(&seen, GUEST_RIP) = level->rip;
	AT(&seen, PRIMARY_CONTROLS) = v->primary | PRIMARY_SECONDARY;
	AT(&seen, PIN_CONTROLS) = PIN_NMI | PIN_VIRTUAL_NMIS | PIN_EXTERNAL_INTERRUPT;
	AT(&seen, EXIT_CONTROLS) = AT(&seen, CR3_TARGET_COUNT) = AT(&seen, EXIT_MSR_STORE_COUNT) = 0;
	AT(&seen, ENTRY_MSR_LOAD_COUNT) = AT(&seen, EXIT_MSR_LOAD_COUNT) = 0;
	AT(&seen, LINK_POINTER) = ~UINT64_C(0);
	AT(&seen, VPID) = 1;
	AT(&seen, MSR_BITMAP) = 0;
	must(vmx_check_controls(&check) == 0);
	/* Of an event that has an exit to L1 in its way the processor isn't asked; a shutdown of L1's either. */
	must(vmx_check_guest(&check, true) == GUEST_FINE);
}

static void assert_confined(void)
{
	const uint32_t needed = SECONDARY_EPT | SECONDARY_UNRESTRICTED | SECONDARY_VPID, primary = l2v->primary;
	const uint8_t *map = direct_pointer(l2v->msr_bitmap), *own = direct_pointer(l1v->msr_bitmap);
	const uint64_t *v = vmcs_of[1];
	bool mapped = AT(&n->vmcs12, PRIMARY_CONTROLS) & PRIMARY_MSR_BITMAP;
	uint32_t secondary = (uint32_t)v[VMCS_SECONDARY_CONTROLS];

	must((primary | PRIMARY_HLT) == (primary | PRIMARY_HLT | vmx_capability.primary));
	must((primary & PRIMARY_HLT) || (AT(&n->vmcs12, PIN_CONTROLS) & PIN_PREEMPTION_TIMER));
	must((secondary & needed) == needed &&
	     !(secondary & ~(vmx_capability.secondary | vmx_capability.may_secondary)));
	must(!(secondary & SECONDARY_PML) || !n->base.slat.on);
	must((v[VMCS_EXCEPTION_BITMAP] & VMX_EXCEPTIONS) == VMX_EXCEPTIONS);
	must(!(AT(&n->vmcs12, EXCEPTION_BITMAP) & ~v[VMCS_EXCEPTION_BITMAP]));
	must(!(vmx_cr0_mask() & ~v[VMCS_CR0_MASK]) && !(vmx_cr4_mask() & ~v[VMCS_CR4_MASK]));
	must(!(AT(&n->vmcs12, CR0_MASK) & ~v[VMCS_CR0_MASK]) && !(AT(&n->vmcs12, CR4_MASK) & ~v[VMCS_CR4_MASK]));
	must((v[VMCS_ENTRY_CONTROLS] & ~ENTRYC_IA32E) == vmx_capability.entry &&
	     v[VMCS_EPT_POINTER] == HOST_EPT_POINTER);
	must(v[VMCS_LINK_POINTER] == ~UINT64_C(0) && v[VMCS_TSC_OFFSET] == 0);
	for (unsigned i = 0; i < PAGE_SIZE; i++)
		must(map[i] == (map[i] | own[i] | (mapped ? n->msr_bitmap[i] : 0xff)));
	must(!n->base.slat.on || !(n->base.slat.root.v >> 40));
}

/* Exits as the processor tells them; any that no instruction of L1's own makes. */
static void leave_by(const struct edit *e)
{
	static const uint8_t reasons[] = {
		REASON_EXCEPTION_OR_NMI, REASON_TRIPLE_FAULT, REASON_CPUID,      REASON_HLT,
		REASON_CR_ACCESS,        REASON_IO,           REASON_RDMSR,      REASON_WRMSR,
		REASON_DR_ACCESS,        REASON_VMCALL,       REASON_PAUSE,      REASON_XSETBV,
		REASON_RDTSCP,           REASON_INVPCID,      REASON_TASK_SWITCH
	};
	const struct vmx_raw_exit raw = { .reason = reasons[e->field % ARRAY_SIZE(reasons)],
					  .length = 2,
					  .event = (uint32_t)EVENT_VALID | e->pad | (e->low & 3u) << 8,
					  .qualification = e->low };

	l2_exits(raw.reason, EXIT_NOTHING);
	vmcs[VMCS_EXIT_EVENT] = raw.event;
	vmcs[VMCS_EXIT_QUALIFICATION] = raw.qualification;
	vmx_exit_decode(&raw, &l2->exit);
	(void)vmx_nested_ops.exit(&n->base);
	if (n->base.in_l2)
		leave_l2();
}

static void event_for_l1(const struct edit *e)
{
	waiting_vector = e->pad;
	(void)vmx_nested_ops.pending(&n->base, (enum hv_nested_event)(e->field % 3));
}

static void enter_and_leave(const struct edit *e, const struct edit *then)
{
	enum hv_nested_step step = execute(n->vmcs12.launched ? REASON_VMRESUME : REASON_VMLAUNCH, 0);

	(void)e;
	must(step == NESTED_DONE || step == NESTED_ENTERED);
	if (n->base.in_l2) {
		assert_confined();
		assert_enterable(l2);
		if (then->how & 1)
			event_for_l1(then);
		if (n->base.in_l2)
			leave_by(then);
	}
	must(!n->base.in_l2);
	each_untouched(marked);
	assert_enterable(l1);
	/* An abort shuts it down, section 28.7. */
	l1->inject.kind = EVENT_NONE;
}

static uint64_t edited(const struct edit *e, uint64_t old)
{
	static const uint64_t places[] = {
		0,     ~UINT64_C(0), 0x8000000000000000, 0xffff800000000000, 0x7ffffffff000, MSR_LIST, EPT_ROOT | 0x1e,
		0xc000
	};

	switch (e->how >> 2 & 3) {
	case 0: return old ^ BIT(e->low & 63);
	case 1: return e->low;
	case 2: return (uint64_t)(int64_t)(int32_t)e->low << (e->pad & 31);
	default: return places[e->low % ARRAY_SIZE(places)];
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned rounds = 0;
	struct edit e, then = { 0 };

	if (!size)
		return 0;
	open_fuzz(*data++);
	for (size--; size >= sizeof(e) && rounds < ROUNDS_MAX; data += sizeof(e), size -= sizeof(e)) {
		memcpy(&e, data, sizeof(e));
		if (e.how & 2) {
			if (size >= 2 * sizeof(e))
				memcpy(&then, data + sizeof(e), sizeof(then));
			enter_and_leave(&e, &then);
			rounds++;
		} else {
			vmx_nested_fetch_kept(n);
			(void)vm_write(vmcs12_encoding(e.field % VMCS12_SLOTS),
				       edited(&e, n->vmcs12.field[e.field % VMCS12_SLOTS]));
		}
	}
	enter_and_leave(&then, &then);
	flips = false;
	close_world();
	return 0;
}
