/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's segments. Intel SDM vol. 3 section 27.3.1.2. See check.h. */
#include "vmx/nested/check.h"

#define SELECTOR_RPL 3u
#define SELECTOR_TI 4u
#define TYPE(rights) ((rights)&0xfu)
#define TYPE_CODE 8u
#define TYPE_CONFORMING 4u
#define TYPE_READABLE 2u
#define TYPE_ACCESSED 1u
#define TYPE_DATA_RW 3u
#define TYPE_DATA_RW_DOWN 7u
#define TYPE_LDT 2u
#define TYPE_TSS_16_BUSY 3u
#define TYPE_TSS_BUSY 11u
#define RIGHTS_RESERVED (BITS(31, 17) | BITS(11, 8))
#define VIRTUAL_8086_RIGHTS 0xf3u

struct part {
	uint64_t base;
	uint32_t limit, rights, selector;
};

struct mode {
	const struct vmx_check *check;
	struct part part[SEG_COUNT];
	bool long_mode, unrestricted, virtual_8086, protected_mode;
};

static bool usable(const struct part *p)
{
	return !(p->rights & RIGHTS_UNUSABLE);
}

/* Bits that any segment in use has right: no reserved ones, present, a granularity that goes with the limit. */
static bool common_fits(const struct part *p)
{
	if ((p->rights & RIGHTS_RESERVED) || !(p->rights & SEG_ATTR_PRESENT))
		return false;
	return p->rights & SEG_ATTR_G ? (p->limit & 0xfff) == 0xfff : !(p->limit >> 20);
}

static bool code_fits(const struct mode *m)
{
	const struct part *cs = &m->part[SEG_CS], *ss = &m->part[SEG_SS];
	uint32_t dpl = SEG_ATTR_DPL(cs->rights), ss_dpl = SEG_ATTR_DPL(ss->rights);

	if (!usable(cs) || !(cs->rights & SEG_ATTR_S) || !common_fits(cs) || (cs->base >> 32))
		return false;
	if (m->long_mode && (cs->rights & SEG_ATTR_L) && (cs->rights & SEG_ATTR_DB))
		return false;
	switch (TYPE(cs->rights)) {
	case TYPE_DATA_RW: return m->unrestricted && dpl == 0;
	case TYPE_CODE | TYPE_ACCESSED:
	case TYPE_CODE | TYPE_READABLE | TYPE_ACCESSED: return dpl == ss_dpl;
	case TYPE_CODE | TYPE_CONFORMING | TYPE_ACCESSED:
	case TYPE_CODE | TYPE_CONFORMING | TYPE_READABLE | TYPE_ACCESSED: return dpl <= ss_dpl;
	default: return false;
	}
}

/* DPL is what CPL is, used or not. */
static bool stack_fits(const struct mode *m)
{
	const struct part *cs = &m->part[SEG_CS], *ss = &m->part[SEG_SS];
	uint32_t dpl = SEG_ATTR_DPL(ss->rights);

	if (!m->unrestricted &&
	    ((ss->selector & SELECTOR_RPL) != (cs->selector & SELECTOR_RPL) || dpl != (ss->selector & SELECTOR_RPL)))
		return false;
	if ((TYPE(cs->rights) == TYPE_DATA_RW || !m->protected_mode) && dpl)
		return false;
	return !usable(ss) || ((TYPE(ss->rights) == TYPE_DATA_RW || TYPE(ss->rights) == TYPE_DATA_RW_DOWN) &&
			       (ss->rights & SEG_ATTR_S) && common_fits(ss) && !(ss->base >> 32));
}

static bool data_fits(const struct mode *m, unsigned name)
{
	const struct part *p = &m->part[name];
	uint32_t type = TYPE(p->rights);

	if (name >= SEG_FS && !vmx_is_canonical(m->check, p->base))
		return false;
	if (!usable(p))
		return true;
	if (!(type & TYPE_ACCESSED) || ((type & TYPE_CODE) && !(type & TYPE_READABLE)) || !(p->rights & SEG_ATTR_S) ||
	    !common_fits(p) || (name < SEG_FS && p->base >> 32))
		return false;
	return m->unrestricted || type > 11 || SEG_ATTR_DPL(p->rights) >= (p->selector & SELECTOR_RPL);
}

static bool virtual_8086_fits(const struct mode *m)
{
	for (unsigned i = 0; i <= SEG_GS; i++)
		if (m->part[i].base != (uint64_t)m->part[i].selector << 4 || m->part[i].limit != 0xffff ||
		    m->part[i].rights != VIRTUAL_8086_RIGHTS)
			return false;
	return true;
}

static bool system_fit(const struct mode *m)
{
	const struct part *tr = &m->part[SEG_TR], *ldtr = &m->part[SEG_LDTR];
	uint32_t type = TYPE(tr->rights);

	if ((tr->selector & SELECTOR_TI) || !usable(tr) || !vmx_is_canonical(m->check, tr->base) ||
	    (tr->rights & SEG_ATTR_S) || !common_fits(tr) ||
	    !(type == TYPE_TSS_BUSY || (type == TYPE_TSS_16_BUSY && !m->long_mode)))
		return false;
	return !usable(ldtr) || (!(ldtr->selector & SELECTOR_TI) && vmx_is_canonical(m->check, ldtr->base) &&
				 TYPE(ldtr->rights) == TYPE_LDT && !(ldtr->rights & SEG_ATTR_S) && common_fits(ldtr));
}

bool vmx_segments_fit(const struct vmx_check *check)
{
	const union vmcs12 *v = check->vmcs;
	struct mode m = { .check = check,
			  .long_mode = AT(v, ENTRY_CONTROLS) & ENTRYC_IA32E,
			  .unrestricted = vmcs12_secondary(v) & SECONDARY_UNRESTRICTED,
			  .virtual_8086 = AT(v, GUEST_RFLAGS) & RFLAGS_VM,
			  .protected_mode = AT(v, GUEST_CR0) & CR0_PE };

	for (unsigned i = 0; i < SEG_COUNT; i++)
		m.part[i] = (struct part){ .base = AT_NEXT(v, GUEST_ES_BASE, i),
					   .limit = (uint32_t)AT_NEXT(v, GUEST_ES_LIMIT, i),
					   .rights = (uint32_t)AT_NEXT(v, GUEST_ES_RIGHTS, i),
					   .selector = (uint32_t)AT_NEXT(v, GUEST_ES_SELECTOR, i) };
	if (!system_fit(&m))
		return false;
	if (m.virtual_8086)
		return virtual_8086_fits(&m);
	return code_fits(&m) && stack_fits(&m) && data_fits(&m, SEG_DS) && data_fits(&m, SEG_ES) &&
	       data_fits(&m, SEG_FS) && data_fits(&m, SEG_GS);
}
