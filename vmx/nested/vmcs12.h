/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VMCS of L1's (VMCS12), as it lies in L1's memory and in ours while it is current there: one page of 512 slots of 8 bytes.
 * A field's slot follows from its encoding, so that there is no table of offsets: width and kind (bits 14:13 and 11:10) are the
 * group, bits 5:1 the index in it. No field of 16 bits is read-only; the header lies in that group, which is the first.
 *
 * fields.c has the one table of which fields exist and what becomes of them at entries and exits. Pure.
 */
#pragma once

#include "vmx/vmcs.h"

#define VMCS12_REVISION 0x51u /* nobody else's: L1 takes it from IA32_VMX_BASIC */
#define VMCS12_SLOTS 512u
#define VMCS12_WORDS (VMCS12_SLOTS / 64)

#define SLOT_GROUP(encoding) ((((encoding) >> 11 & 0xcu) | ((encoding) >> 10 & 3u)) ^ 1u)
#define VMCS12_SLOT(encoding) (SLOT_GROUP(encoding) << 5 | ((encoding) >> 1 & 0x1fu))

union vmcs12 {
	struct {
		uint32_t revision, abort; /* section 25.2 */
		uint32_t launched;        /* 1: by VMLAUNCH; 0: clear */
	};
	uint64_t field[VMCS12_SLOTS];
};

_Static_assert(sizeof(union vmcs12) == 4096, "a VMCS region");
_Static_assert(VMCS12_SLOT(0x0400) == 0 && VMCS12_SLOT(0x6c16) < VMCS12_SLOTS,
	       "the group that no field is in comes first");

/* AT(vmcs, GUEST_CR0) is that field. */
#define AT(vmcs, name) ((vmcs)->field[VMCS12_SLOT(VMCS_##name)])
#define AT_NEXT(vmcs, name, n) ((vmcs)->field[VMCS12_SLOT(VMCS_##name) + (n)])

/* A set of slots. */
struct vmcs12_set {
	uint64_t word[VMCS12_WORDS];
};

static inline bool vmcs12_has(const struct vmcs12_set *set, unsigned slot)
{
	return set->word[slot / 64] >> slot % 64 & 1;
}

static inline void vmcs12_add(struct vmcs12_set *set, unsigned slot)
{
	set->word[slot / 64] |= BIT(slot % 64);
}

static inline enum vmcs_field vmcs12_encoding(unsigned slot)
{
	unsigned group = slot >> 5 ^ 1u;

	return (enum vmcs_field)((group & 0xc) << 11 | (group & 3) << 10 | (slot & 0x1f) << 1);
}

/* What becomes of a field. */
#define FIELD_EXISTS 1u
#define FIELD_COPIED 2u /* the processor gets it as it is, at the next entry after it has changed */
#define FIELD_KEPT 4u   /* the processor may change it; it is fetched when L1 asks for it */
#define FIELD_HOT 8u    /* the same, but fetched at each exit */
#define FIELD_EXIT 16u  /* tells of the exit: fetched when one is passed on to L1 */

#define FIELD_MIRRORED 32u /* L1 reads and writes it without an exit, where the processor has VMCS shadowing */

/* The slots of fields with any of these marks. */
void vmcs12_fields(struct vmcs12_set *set, unsigned marks);

/* The same for those that each entry or exit goes through. */
#define VMCS12_LIST_MAX 32u
struct vmcs12_list {
	unsigned count;
	struct vmcs12_ref {
		uint16_t slot, encoding;
	} ref[VMCS12_LIST_MAX];
};
/* writable: but for those that VMWRITE refuses. */
void vmcs12_list(struct vmcs12_list *list, unsigned marks, bool writable);
#define FOR_FIELDS(f, list) for (const struct vmcs12_ref *f = (list).ref; f < (list).ref + (list).count; f++)

/* A VMREAD or VMWRITE of this encoding, bits 63:32 included; false: no such field (error 12). high: its upper half alone. */
bool vmcs12_find(uint64_t encoding, unsigned *slot, bool *high) __attribute__((warn_unused_result));
static inline bool vmcs12_read_only(unsigned slot)
{
	return ((slot >> 5 ^ 1u) & 3) == 1;
}
uint64_t vmcs12_read(const union vmcs12 *vmcs, unsigned slot, bool high);
/* What the field holds after a VMWRITE: as wide as it is. */
uint64_t vmcs12_written(const union vmcs12 *vmcs, unsigned slot, bool high, uint64_t value);
/* The highest index of a field, as IA32_VMX_VMCS_ENUM has it (section A.9). */
#define VMCS12_HIGHEST_INDEX 0x19u
