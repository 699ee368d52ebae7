/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page-modification logging (Intel SDM vol. 3 section 29.3.6): whenever the processor sets the dirty bit of an EPT leaf, it
 * writes the page's address into a buffer of 512 entries, from the last one down, and exits when none is left.
 *
 * It is on all the time. EPT leaves are made with their dirty bit set, so nothing is logged, and nothing costs
 * anything, until PGM's dirty log clears those bits. Nor does an exit cost more: the buffer is read where it lies, by whoever
 * wants to know, on any CPU. An entry that was taken out becomes EMPTY, which no page is; the first EMPTY one
 * from above is where the processor has got to. The index in the VMCS is touched only when it has run out.
 */
#include "mm/frame.h"
#include "mm/map.h"
#include "vmx/instructions.h"
#include "vmx/vmx.h"

#define EMPTY (~UINT64_C(0))
/* Some processors leave the access's offset in the low bits. */
#define ENTRY_PAGE BITS(63, 12)
/* Taken out at once, under the lock. */
#define BATCH 32u

_Static_assert(PML_ENTRIES * sizeof(uint64_t) == PAGE_SIZE, "the buffer is one page");
_Static_assert((EMPTY & ENTRY_PAGE) > BITS(51, 0), "no page has this address");

static void fill_empty(uint64_t *buffer)
{
	for (unsigned i = 0; i < PML_ENTRIES; i++)
		buffer[i] = EMPTY;
}

enum status vmx_pml_create(struct vmx_pml *pml)
{
	lock_init(&pml->lock, RANK_LEAF, "PML buffer");
	pml->left = PML_ENTRIES;
	if (!vmx_capability.pml)
		return OK;
	TRY(table_alloc(&host_account, &pml->buffer));
	fill_empty(direct_pointer(pml->buffer));
	return OK;
}

static unsigned take(struct vmx_pml *pml, gpa_t *pages)
{
	uint64_t *buffer = direct_pointer(pml->buffer);
	unsigned count = 0;

	HOLD(&pml->lock);
	while (count < BATCH && pml->left) {
		uint64_t entry = __atomic_load_n(&buffer[pml->left - 1], __ATOMIC_ACQUIRE);

		if (entry == EMPTY)
			break;
		buffer[--pml->left] = EMPTY;
		pages[count++] = gpa(entry & ENTRY_PAGE);
	}
	return count;
}

void vmx_collect_written(struct hv_vcpu *vcpu)
{
	struct vmx_pml *pml = &vmx_of(vcpu)->pml;
	gpa_t pages[BATCH];
	unsigned count;

	if (hpa_is_none(pml->buffer))
		return;
	do {
		count = take(pml, pages);
		for (unsigned i = 0; vcpu->page_written && i < count; i++)
			vcpu->page_written(vcpu->page_context, pages[i]);
	} while (count == BATCH);
}

void vmx_pml_full(struct vmx_vcpu *v)
{
	vmx_collect_written(&v->hv);
	HOLD(&v->pml.lock);
	fill_empty(direct_pointer(v->pml.buffer));
	v->pml.left = PML_ENTRIES;
	vmcs_write(VMCS_GUEST_PML_INDEX, PML_ENTRIES - 1);
}
