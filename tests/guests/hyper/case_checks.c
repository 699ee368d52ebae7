/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What VMRUN and VM entry refuse: one thing wrong at a time. SDM vol. 3 sections 27.2 and 27.3 (error 7: controls, 8: host state, exit
 * 33: guest state); APM vol. 2 section 15.5.1 (VMEXIT_INVALID).
 */
#include "svm.h"
#include "vmx.h"

#define CONTROLS 7u
#define HOST 8u
#define GUEST 33u /* an exit */
#define FINE 0u

static struct l2 *l2;

/* XORed over what a good one has. */
static const struct {
	const char *name;
	uint32_t field;
	uint64_t flip;
	uint32_t want;
} vmx_rows[] = {
	{ "I/O map not on a page", IO_MAP_A, 1, CONTROLS },
	{ "I/O map beyond", IO_MAP_B, 1ull << 51, CONTROLS },
	{ "MSR map not on a page", MSR_MAP, 8, CONTROLS },
	{ "EPT pointer's type", EPT_POINTER, 2, CONTROLS },
	{ "EPT pointer's levels", EPT_POINTER, 8, CONTROLS },
	{ "EPT pointer's reserved bits", EPT_POINTER, 1ull << 11, CONTROLS },
	{ "EPT pointer beyond", EPT_POINTER, 1ull << 51, CONTROLS },
	{ "VPID 0", VPID, 0, FINE },
	{ "virtual NMIs without NMI exiting", PIN, PIN_VIRTUAL_NMI, CONTROLS },
	{ "NMI window without virtual NMIs", PROCESSOR, PROC_NMI_WINDOW, CONTROLS },
	{ "a control that must be 1", PROCESSOR, 2, CONTROLS },
	{ "a control that must be 0", ENTRY_CONTROLS, 1u << 31, CONTROLS },
	{ "unrestricted guest without EPT", PROCESSOR_2, PROC2_EPT | PROC2_UNRESTRICTED, CONTROLS },
	{ "CR3-target count", CR3_COUNT, 5, CONTROLS },
	{ "event with reserved bits", ENTRY_EVENT, 1u << 31 | 1u << 20 | 0x20, CONTROLS },
	{ "event of a reserved type", ENTRY_EVENT, 1u << 31 | 1u << 8 | 0x20, CONTROLS },
	{ "NMI that isn't vector 2", ENTRY_EVENT, 1u << 31 | EVENT_NMI << 8 | 3, CONTROLS },
	{ "exception above 31", ENTRY_EVENT, 1u << 31 | EVENT_EXCEPTION << 8 | 32, CONTROLS },
	{ "#UD with an error code", ENTRY_EVENT, 1u << 31 | EVENT_EXCEPTION << 8 | 1u << 11 | 6, CONTROLS },
	{ "#GP without an error code", ENTRY_EVENT, 1u << 31 | EVENT_EXCEPTION << 8 | 13, CONTROLS },
	{ "software interrupt without a length", ENTRY_EVENT, 1u << 31 | EVENT_SOFTWARE << 8 | 0x30, CONTROLS },
	{ "host CR0 without paging", HOST_CR0, 1ull << 31, HOST },
	{ "host CR4 without VMXE", HOST_CR4, CR4_VMXE, HOST },
	{ "host CR4 without PAE", HOST_CR4, 32, HOST },
	{ "host CR3 beyond", HOST_CR3, 1ull << 51, HOST },
	{ "host CS with RPL", HOST_SELECTOR + 2, 3, HOST },
	{ "host TR with TI", HOST_SELECTOR + 12, 4, HOST },
	{ "host RIP not canonical", HOST_RIP, 1ull << 63, HOST },
	{ "host GDT not canonical", HOST_GDT_BASE, 1ull << 63, HOST },
	{ "host FS base not canonical", HOST_FS_BASE, 1ull << 63, HOST },
	{ "host EFER without LMA", HOST_EFER, 1u << 10, HOST },
	{ "host EFER with reserved bits", HOST_EFER, 1u << 9, HOST },
	{ "host without 64-bit mode", EXIT_CONTROLS, EXIT_HOST64, HOST },
	{ "CR0 without NE", GUEST_CR0, 32, GUEST },
	{ "CR0 with paging alone", GUEST_CR0, 1, GUEST },
	{ "CR4 without VMXE", GUEST_CR4, CR4_VMXE, GUEST },
	{ "CR4 without PAE", GUEST_CR4, 32, GUEST },
	{ "CR4 with a reserved bit", GUEST_CR4, 1ull << 31, GUEST },
	{ "CR3 beyond", GUEST_CR3, 1ull << 51, GUEST },
	{ "DR7 not known", GUEST_DR7, 0x100, FINE },
	{ "EFER without LMA", GUEST_EFER, 1u << 10, GUEST },
	{ "EFER with reserved bits", GUEST_EFER, 1u << 9, GUEST },
	{ "RFLAGS without bit 1", GUEST_RFLAGS, 2, GUEST },
	{ "RFLAGS with bit 3", GUEST_RFLAGS, 8, GUEST },
	{ "RFLAGS with VM", GUEST_RFLAGS, 1u << 17, GUEST },
	{ "RIP not canonical", GUEST_RIP, 1ull << 63, GUEST },
	{ "TR with TI", GUEST_SELECTOR + 14, 4, GUEST },
	{ "TR available", GUEST_RIGHTS + 14, 2, GUEST },
	{ "TR unusable", GUEST_RIGHTS + 14, 0x10000, GUEST },
	{ "CS not accessed", GUEST_RIGHTS + 2, 1, GUEST },
	{ "CS with L and D", GUEST_RIGHTS + 2, 1u << 14, GUEST },
	{ "CS not present", GUEST_RIGHTS + 2, 1u << 7, GUEST },
	{ "CS' reserved rights", GUEST_RIGHTS + 2, 1u << 8, GUEST },
	{ "SS with DPL 3", GUEST_RIGHTS + 4, 3u << 5, GUEST },
	{ "SS with RPL 3", GUEST_SELECTOR + 4, 3, GUEST },
	{ "DS' limit and granularity", GUEST_RIGHTS + 6, 1u << 15, GUEST },
	{ "GDT's limit", GUEST_GDT_LIMIT, 0x10000, GUEST },
	{ "IDT's base not canonical", GUEST_IDT_BASE, 1ull << 63, GUEST },
	{ "activity state", ACTIVITY, 4, GUEST },
	{ "interruptibility's reserved bits", INTERRUPTIBILITY, 32, GUEST },
	{ "STI and MOV SS at once", INTERRUPTIBILITY, 3, GUEST },
	{ "STI with IF clear", INTERRUPTIBILITY, 1, GUEST },
	{ "interrupt with IF clear", ENTRY_EVENT, 1u << 31 | 0x30, GUEST },
	{ "pending debug's reserved bits", PENDING_DEBUG, 16, GUEST },
	{ "link pointer", LINK_POINTER, 1, GUEST },
	{ "nothing", GUEST_RIP, 0, FINE },
};

/* An instruction's length of 0 is fine where IA32_VMX_MISC says so; Bochs takes any RIP. */
static bool may_be_fine(unsigned i)
{
	if (vmx_rows[i].field == ENTRY_EVENT)
		return (vmx_rows[i].flip >> 8 & 7) == EVENT_SOFTWARE && (rdmsr(0x485) >> 30 & 1);
	return vmx_rows[i].field == GUEST_RIP && hyper.bochs;
}

static void one_vmx(unsigned i)
{
	uint64_t old;
	uint32_t have;

	l2_do(l2, l2_halt, 0, 0); /* all as it was */
	if (!check(l2->exit.kind == GOT_HLT))
		return;
	vmx_write(l2, GUEST_RIP, address_of(l2_halt));
	old = vmx_read(l2, vmx_rows[i].field);
	vmx_write(l2, vmx_rows[i].field, old ^ vmx_rows[i].flip);
	l2_resume(l2);
	have = l2->exit.failed                ? (uint32_t)l2->exit.info1
	       : l2->exit.kind == GOT_INVALID ? (uint32_t)l2->exit.reason & 0xff
					      : FINE;
	print("%s: ", vmx_rows[i].name);
	if (!may_be_fine(i))
		print("%u", have);
	if (have == GUEST && !may_be_fine(i))
		print(", qualification %llx", (unsigned long long)l2->exit.info1);
	print("\n");
	if (have != vmx_rows[i].want && !may_be_fine(i)) {
		failures++;
		print("FAILED: %s: not %u\n", vmx_rows[i].name, vmx_rows[i].want);
	}
	vmx_write(l2, vmx_rows[i].field, old);
	vmx_write(l2, ENTRY_EVENT, 0);
	vmx_write(l2, GUEST_RFLAGS, 2);
}

#define AT(member) offsetof(struct vmcb, member)
static const struct {
	const char *name;
	uint32_t offset;
	uint64_t flip;
	bool refused, often_missed; /* by emulators */
} svm_rows[] = {
	{ "EFER without SVME", AT(efer), EFER_SVME, true, false },
	{ "EFER with a reserved bit", AT(efer), 1ull << 60, true, true },
	{ "CR0 with NW but not CD", AT(cr0), 1ull << 29, true, true },
	{ "CR0's high bits", AT(cr0), 1ull << 40, true, true },
	{ "CR3 beyond", AT(cr3), 1ull << 60, true, true },
	{ "CR4's high bits", AT(cr4), 1ull << 40, true, false },
	{ "CR4's reserved bit", AT(cr4), 1ull << 15, true, true },
	{ "DR6's high bits", AT(dr6), 1ull << 40, true, true },
	{ "DR7's high bits", AT(dr7), 1ull << 40, true, true },
	{ "long mode without PAE", AT(cr4), 32, true, true },
	{ "long mode without protection", AT(cr0), 1, true, true },
	{ "CS with L and D", AT(cs.attributes), 1u << 10, true, true },
	{ "no intercept of VMRUN", AT(intercepts[4]), 1, true, false },
	{ "ASID 0", AT(asid), 1, true, false },
	{ "map of MSRs beyond", AT(msr_map), 1ull << 51, true, true },
	{ "nested CR3 beyond", AT(nested_root), 1ull << 60, true, true },
	{ "event of a reserved type", AT(inject), 1ull << 31 | 1u << 8 | 0x20, true, true },
	{ "exception above 31", AT(inject), 1ull << 31 | 3u << 8 | 40, true, true },
	{ "exception 2", AT(inject), 1ull << 31 | 3u << 8 | 2, true, true },
	{ "nothing", AT(rip), 0, false, false },
};

static void one_svm(unsigned i)
{
	uint64_t *word = (uint64_t *)((uint8_t *)l2->control + svm_rows[i].offset), old;
	bool refused;

	l2_do(l2, l2_halt, 0, 0);
	if (!check(l2->exit.kind == GOT_HLT) || (svm_rows[i].often_missed && !option("strict")))
		return;
	hyper.vendor->set(l2, L2_RIP, address_of(l2_halt));
	old = *word;
	*word ^= svm_rows[i].flip;
	l2_resume(l2);
	refused = l2->exit.kind == GOT_INVALID;
	print("%s: %s\n", svm_rows[i].name, refused ? "refused" : "taken");
	*word = old;
	if (refused == svm_rows[i].refused)
		return;
	failures++;
	print("FAILED: %s\n", svm_rows[i].name);
}

void case_checks(void)
{
	l2 = l2_new(true);
	if (hyper.vendor->svm)
		for (unsigned i = 0; i < sizeof(svm_rows) / sizeof(svm_rows[0]); i++)
			one_svm(i);
	else
		for (unsigned i = 0; i < sizeof(vmx_rows) / sizeof(vmx_rows[0]); i++)
			one_vmx(i);
}
