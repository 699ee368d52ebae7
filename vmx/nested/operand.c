/* SPDX-License-Identifier: Apache-2.0 */
/* See operand.h. */
#include "vmx/nested/operand.h"

#define TYPE_CODE 8u
#define TYPE_DOWN 4u   /* of data */
#define TYPE_ALLOWS 2u /* data: written; code: read */

/* Outside 64-bit mode: kind and limit of the segment. */
static bool segment_allows(const struct segment *s, uint64_t offset, unsigned size, bool write)
{
	uint32_t type = s->attributes & 0xf;
	uint64_t last = offset + size - 1, top = s->attributes & SEG_ATTR_DB ? BITS(31, 0) : BITS(15, 0);

	if (!(s->attributes & SEG_ATTR_PRESENT) || last > BITS(31, 0))
		return false;
	if (type & TYPE_CODE ? write || !(type & TYPE_ALLOWS) : write && !(type & TYPE_ALLOWS))
		return false;
	return !(type & TYPE_CODE) && (type & TYPE_DOWN) ? offset > s->limit && last <= top : last <= s->limit;
}

bool vmx_operand_address(const struct hv_vcpu *l1, uint32_t info, uint64_t displacement, unsigned size, bool write,
			 unsigned linear_bits, gva_t *address, struct hv_event *fault)
{
	static const uint64_t masks[] = { BITS(15, 0), BITS(31, 0), ~UINT64_C(0) };
	enum segment_name name = INFO_SEGMENT(info);
	const struct segment *s = &l1->segment[name < SEG_LDTR ? name : SEG_DS];
	uint64_t offset = displacement, last;
	bool fits;

	if (!(info & INFO_NO_BASE))
		offset += l1->gpr[INFO_BASE(info)];
	if (!(info & INFO_NO_INDEX))
		offset += l1->gpr[INFO_INDEX(info)] << INFO_SCALING(info);
	offset &= masks[INFO_ADDRESS_SIZE(info) < 2 ? INFO_ADDRESS_SIZE(info) : 2];
	if (hv_in_64_bit(l1)) {
		*address = gva(offset + (name == SEG_FS || name == SEG_GS ? s->base : 0));
		last = address->v + size - 1;
		fits = sign_extend(address->v, linear_bits) == address->v && sign_extend(last, linear_bits) == last;
	} else {
		*address = gva((offset + s->base) & BITS(31, 0));
		fits = segment_allows(s, offset, size, write);
	}
	*fault = hv_exception(name == SEG_SS ? VECTOR_SS : VECTOR_GP, true, 0);
	return fits;
}
