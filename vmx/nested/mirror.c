/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMCS shadowing (Intel SDM vol. 3 section 25.10): where the processor has it, L1's VMREAD and VMWRITE of the fields marked
 * FIELD_MIRRORED work on a VMCS of ours, the mirror, without an exit. It is VMCS12's image while L1 runs: push() makes it from vmcs12
 * when one becomes current and at each exit to L1, pull() takes back what L1 may have written before anybody looks at vmcs12.
 * The processor keeps parts of it while VMCS01 names it, so it is cleared after each use (section 25.11.1), and with VMCS01.
 */
#include <string.h>

#include "arch/x86_64/log.h"
#include "mm/frame.h"
#include "mm/map.h"
#include "vmx/instructions.h"
#include "vmx/nested/nested.h"

static void open_mirror(const struct vmx_vcpu *l1)
{
	panic_unless(vmptrld(l1->mirror));
}

/* And back to the VMCS that vmx_cpu.current speaks of. */
static void close_mirror(const struct vmx_vcpu *l1)
{
	panic_unless(vmclear(l1->mirror) && vmptrld(vmx_cpus[cpu_index()].current->vmcs));
}

void vmx_mirror_show(const struct vmx_vcpu *v, bool shown)
{
	uint64_t secondary = vmcs_read(VMCS_SECONDARY_CONTROLS) & ~SECONDARY_SHADOWING;

	vmcs_write(VMCS_SECONDARY_CONTROLS, secondary | (shown ? SECONDARY_SHADOWING : 0));
	vmcs_write(VMCS_LINK_POINTER, shown ? v->mirror.v : ~UINT64_C(0));
}

void vmx_mirror_push(struct vmx_nested *n, bool anew)
{
	struct vmx_vcpu *l1 = vmx_of(n->base.l1);

	if (hpa_is_none(l1->mirror))
		return;
	open_mirror(l1);
	FOR_FIELDS(f, n->mirrored)
	vmcs_write(f->encoding, n->vmcs12.field[f->slot]);
	close_mirror(l1);
	n->in_mirror = true;
	if (!anew)
		return;
	vmx_make_current(l1);
	vmcs_write(VMCS_VMREAD_BITMAP, n->read_bitmap.v);
	vmcs_write(VMCS_VMWRITE_BITMAP, n->write_bitmap.v);
	vmx_mirror_show(l1, true);
}

void vmx_mirror_pull(struct vmx_nested *n)
{
	struct vmx_vcpu *l1 = vmx_of(n->base.l1);

	if (!n->in_mirror)
		return;
	n->in_mirror = false;
	open_mirror(l1);
	FOR_FIELDS(f, n->written)
	{
		uint64_t value = vmcs_read(f->encoding);

		if (value != n->vmcs12.field[f->slot]) /* none is a kept one: equal is unchanged */
			vmx_nested_store_field(n, f->slot, value);
	}
	close_mirror(l1);
}

void vmx_mirror_hide(struct vmx_nested *n)
{
	struct vmx_vcpu *l1 = vmx_of(n->base.l1);

	if (hpa_is_none(l1->mirror))
		return;
	vmx_make_current(l1);
	vmx_mirror_show(l1, false);
}

/* A bit set makes an access exit; by the encoding's low 15 bits. */
static void allow(const struct vmcs12_list *list, hpa_t bitmap)
{
	uint8_t *bits = direct_pointer(bitmap);

	memset(bits, 0xff, PAGE_SIZE);
	FOR_FIELDS(f, *list)
	bits[f->encoding / 8] &= (uint8_t) ~(1u << f->encoding % 8);
}

enum status vmx_mirror_create(struct vmx_nested *n)
{
	struct vmx_vcpu *l1 = vmx_of(n->base.l1);

	n->read_bitmap = n->write_bitmap = HPA_NONE;
	if (!vmx_capability.shadowing)
		return OK;
	vmcs12_list(&n->mirrored, FIELD_MIRRORED, false);
	vmcs12_list(&n->written, FIELD_MIRRORED, true);
	TRY(table_alloc(&host_account, &n->read_bitmap));
	TRY(table_alloc(&host_account, &n->write_bitmap));
	TRY(table_alloc(&host_account, &l1->mirror));
	allow(&n->mirrored, n->read_bitmap);
	allow(&n->written, n->write_bitmap);
	*(uint32_t *)direct_pointer(l1->mirror) = vmx_capability.revision | (uint32_t)SHADOW_VMCS;
	return OK;
}

void vmx_mirror_destroy(struct vmx_nested *n)
{
	vmx_free_frame(n->read_bitmap);
	vmx_free_frame(n->write_bitmap);
}
