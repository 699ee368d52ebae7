/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fields of a VMCS12 (Intel SDM vol. 3 appendix B, chapter 25): the table, and VMREAD's and VMWRITE's access by it. A field that
 * no control offered refers to doesn't exist (section 25.11.2). What isn't copied is made anew at each entry and exit, in enter.c and
 * leave.c: what mixes with Quire's own (controls, CR0, CR4, EFER), and what a control may leave alone (DR7, PAT). Pure.
 */
#include "vmx/nested/vmcs12.h"

#define MADE FIELD_EXISTS
#define MADE_MIRRORED (MADE | FIELD_MIRRORED)
#define COPIED (FIELD_EXISTS | FIELD_COPIED)
#define KEPT (COPIED | FIELD_KEPT)
#define HOT (COPIED | FIELD_HOT | FIELD_MIRRORED)
#define EXIT (FIELD_EXISTS | FIELD_EXIT | FIELD_MIRRORED)

/* A run of fields, `count` from this one on. */
#define RUN(name, count) [VMCS12_SLOT(VMCS_##name)... VMCS12_SLOT(VMCS_##name) + (count)-1]
#define ONE(name) [VMCS12_SLOT(VMCS_##name)]

static const uint8_t fields[VMCS12_SLOTS] = {
	ONE(VPID) = MADE,
	RUN(GUEST_ES_SELECTOR, 8) = KEPT,
	RUN(HOST_ES_SELECTOR, 7) = MADE,

	RUN(IO_BITMAP_A, 7) = MADE, /* MSR bitmap, three MSR lists, executive pointer */
	ONE(TSC_OFFSET) = MADE,
	RUN(VIRTUAL_APIC_ADDRESS, 2) = MADE, /* APIC-access address */
	ONE(EPT_POINTER) = MADE,
	ONE(TSC_MULTIPLIER) = MADE,
	ONE(GUEST_PHYSICAL_ADDRESS) = EXIT,
	RUN(LINK_POINTER, 4) = MADE, /* DEBUGCTL, PAT, EFER */
	RUN(GUEST_PDPTE0, 4) = MADE,
	RUN(HOST_PAT, 2) = MADE, /* EFER */

	ONE(PIN_CONTROLS) = MADE,
	ONE(PRIMARY_CONTROLS) = MADE_MIRRORED,
	ONE(EXCEPTION_BITMAP) = MADE,
	RUN(PAGE_FAULT_MASK, 2) = COPIED, /* match */
	ONE(CR3_TARGET_COUNT) = MADE,
	RUN(EXIT_CONTROLS, 5) = MADE, /* MSR lists' counts, entry controls */
	RUN(ENTRY_EVENT, 3) = MADE_MIRRORED,
	RUN(TPR_THRESHOLD, 2) = MADE, /* secondary controls */
	ONE(INSTRUCTION_ERROR) = MADE,
	RUN(EXIT_REASON, 7) = EXIT, /* as far as the instruction information */
	RUN(GUEST_ES_LIMIT, 10) = KEPT,
	ONE(GUEST_ES_RIGHTS) = KEPT,
	RUN(GUEST_CS_RIGHTS, 2) = HOT, /* SS: entry checks look at both each time */
	RUN(GUEST_DS_RIGHTS, 5) = KEPT,
	RUN(GUEST_INTERRUPTIBILITY, 2) = HOT, /* activity */
	ONE(GUEST_SMBASE) = MADE,
	ONE(GUEST_SYSENTER_CS) = KEPT,
	ONE(PREEMPTION_TIMER) = MADE,
	ONE(HOST_SYSENTER_CS) = MADE,

	RUN(CR0_MASK, 4) = MADE, /* and shadows */
	RUN(CR3_TARGET0, 4) = MADE,
	ONE(EXIT_QUALIFICATION) = EXIT,
	RUN(IO_RCX, 4) = MADE,
	ONE(GUEST_LINEAR_ADDRESS) = EXIT,
	RUN(GUEST_CR0, 3) = MADE_MIRRORED,
	RUN(GUEST_ES_BASE, 10) = KEPT, /* GDTR, IDTR */
	ONE(GUEST_DR7) = MADE,
	ONE(GUEST_RSP) = HOT,
	ONE(GUEST_RIP) = MADE_MIRRORED,
	RUN(GUEST_RFLAGS, 2) = HOT, /* pending debug exceptions */
	RUN(GUEST_SYSENTER_ESP, 2) = KEPT,
	RUN(HOST_CR0, 12) = MADE,
};

_Static_assert(VMCS_SECONDARY_CONTROLS == VMCS_EXIT_CONTROLS + 2 * 9 &&
		       VMCS_ENTRY_EVENT == VMCS_EXIT_CONTROLS + 2 * 5 &&
		       VMCS_EXECUTIVE_POINTER == VMCS_IO_BITMAP_A + 2 * 6 &&
		       VMCS_EXIT_INSTRUCTION_INFO == VMCS_EXIT_REASON + 2 * 6 &&
		       VMCS_GUEST_IDTR_BASE == VMCS_GUEST_ES_BASE + 2 * 9 &&
		       VMCS_GUEST_IDTR_LIMIT == VMCS_GUEST_ES_LIMIT + 2 * 9 && VMCS_HOST_RIP == VMCS_HOST_CR0 + 2 * 11,
	       "runs end where they say");

enum width { WIDTH_16, WIDTH_64, WIDTH_32, WIDTH_NATURAL };

static enum width width(unsigned slot)
{
	return (enum width)(slot >> 7);
}

void vmcs12_fields(struct vmcs12_set *set, unsigned marks)
{
	*set = (struct vmcs12_set){ { 0 } };
	for (unsigned slot = 0; slot < VMCS12_SLOTS; slot++)
		if (fields[slot] & marks)
			vmcs12_add(set, slot);
}

void vmcs12_list(struct vmcs12_list *list, unsigned marks, bool writable)
{
	list->count = 0;
	for (unsigned slot = 0; slot < VMCS12_SLOTS && list->count < VMCS12_LIST_MAX; slot++)
		if ((fields[slot] & marks) && !(writable && vmcs12_read_only(slot)))
			list->ref[list->count++] =
				(struct vmcs12_ref){ (uint16_t)slot, (uint16_t)vmcs12_encoding(slot) };
}

/* Bit 0 asks for the upper half; index bits beyond ours, bit 12 and all above 14 name nothing. */
bool vmcs12_find(uint64_t encoding, unsigned *slot, bool *high)
{
	if (encoding & ~(BITS(14, 13) | BITS(11, 10) | BITS(5, 0)))
		return false;
	*slot = VMCS12_SLOT((unsigned)encoding);
	*high = encoding & 1;
	return fields[*slot] && (!*high || width(*slot) == WIDTH_64);
}

uint64_t vmcs12_read(const union vmcs12 *vmcs, unsigned slot, bool high)
{
	return vmcs->field[slot] >> (high ? 32 : 0);
}

uint64_t vmcs12_written(const union vmcs12 *vmcs, unsigned slot, bool high, uint64_t value)
{
	if (high)
		return value << 32 | (vmcs->field[slot] & BITS(31, 0));
	if (width(slot) == WIDTH_16)
		return value & BITS(15, 0);
	return width(slot) == WIDTH_32 ? value & BITS(31, 0) : value;
}
