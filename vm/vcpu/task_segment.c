/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables that a task switch goes through, and the loading of segments with its own rules for what fits: all that a new task's
 * selectors name badly is #TS. Intel SDM vol. 3 sections 3.4.5, 6.5, table 8-1.
 */
#include "vm/vcpu/task.h"

#define TYPE_LDT 0x02u
#define DESCRIPTOR_S BIT(4)

enum status task_fault(struct task_switch *t, uint8_t vector, uint32_t error)
{
	vcpu_inject_exception(t->vcpu, vector, true, vector == VECTOR_PF ? error : (error & 0xfffc) | t->external);
	return GUEST_FAULT;
}

static enum status told(struct task_switch *t, enum status status, const struct hv_event *event, uint64_t address)
{
	if (status != GUEST_FAULT)
		return status;
	if (event->vector == VECTOR_PF)
		t->h->cr2 = address;
	vcpu_inject_exception(t->vcpu, event->vector, event->has_error_code, event->error_code);
	return GUEST_FAULT;
}

enum status task_read(struct task_switch *t, uint64_t where, void *to, unsigned size)
{
	struct hv_event event;
	uint64_t address = 0;
	enum status status =
		t->env.read(t->vcpu, gva(where & BITS(31, 0)), to, size, ACCESS_READ, true, &event, &address);

	return told(t, status, &event, address);
}

enum status task_write(struct task_switch *t, uint64_t where, const void *from, unsigned size, bool system)
{
	struct hv_event event;
	uint64_t address = 0;
	enum status status = t->env.write(t->vcpu, gva(where & BITS(31, 0)), from, size, system, &event, &address);

	return told(t, status, &event, address);
}

enum status task_read_descriptor(struct task_switch *t, uint16_t selector, uint8_t vector, struct segment *s,
				 uint64_t *at)
{
	const struct segment *ldt = &t->h->segment[SEG_LDTR];
	bool local = selector & TASK_TABLE_LDT;
	uint64_t base = local ? ldt->base : t->h->gdtr.base;
	uint32_t limit = local ? ldt->limit : t->h->gdtr.limit, words[2];

	if ((selector & 0xfff8u) + 7 > limit || (local && !(ldt->attributes & SEG_ATTR_PRESENT)))
		return task_fault(t, vector, selector);
	*at = base + (selector & 0xfff8);
	TRY(task_read(t, *at, words, sizeof(words)));
	s->selector = selector;
	s->attributes = (uint16_t)(words[1] >> 8 & 0xf0ff);
	s->base = words[0] >> 16 | (words[1] & 0xff) << 16 | (words[1] & 0xff000000);
	s->limit = (words[0] & 0xffff) | (words[1] & 0xf0000);
	if (s->attributes & SEG_ATTR_G)
		s->limit = s->limit << 12 | 0xfff;
	return OK;
}

enum status task_write_type(struct task_switch *t, uint64_t at, uint16_t attributes)
{
	uint8_t byte = (uint8_t)attributes;

	return task_write(t, at + 5, &byte, 1, true);
}

enum status task_load_ldt(struct task_switch *t)
{
	struct segment *ldt = &t->h->segment[SEG_LDTR], s;
	uint16_t selector = ldt->selector;
	uint64_t at;

	if (selector < 4)
		return OK;
	if (selector & TASK_TABLE_LDT)
		return task_fault(t, VECTOR_TS, selector);
	TRY(task_read_descriptor(t, selector, VECTOR_TS, &s, &at));
	if ((s.attributes & 0x1f) != TYPE_LDT || !(s.attributes & SEG_ATTR_PRESENT))
		return task_fault(t, VECTOR_TS, selector);
	*ldt = s;
	return OK;
}

/* Type and privileges (SDM vol. 3 table 8-1, section 6.5); the new task runs with the RPL of its CS. */
static bool fits(enum segment_name name, const struct segment *s, unsigned cpl)
{
	unsigned dpl = SEG_ATTR_DPL(s->attributes), rpl = s->selector & 3;
	bool code = s->attributes & 8, conforming = s->attributes & 4, second = s->attributes & 2;
	bool readable = !code || second;

	if (!(s->attributes & DESCRIPTOR_S))
		return false;
	if (name == SEG_CS)
		return code && (conforming ? dpl <= rpl : dpl == rpl);
	if (name == SEG_SS)
		return !code && second && dpl == cpl && rpl == cpl;
	return readable && ((code && conforming) || (dpl >= cpl && dpl >= rpl));
}

enum status task_load_segment(struct task_switch *t, enum segment_name name, unsigned cpl)
{
	struct segment *to = &t->h->segment[name], s;
	bool data = name != SEG_CS && name != SEG_SS;
	uint64_t at;

	if (to->selector < 4)
		return data ? OK : task_fault(t, VECTOR_TS, to->selector);
	TRY(task_read_descriptor(t, to->selector, VECTOR_TS, &s, &at));
	if (!fits(name, &s, cpl))
		return task_fault(t, VECTOR_TS, s.selector);
	if (!(s.attributes & SEG_ATTR_PRESENT))
		return task_fault(t, name == SEG_SS ? VECTOR_SS : VECTOR_NP, s.selector);
	if (!(s.attributes & 1)) {
		s.attributes |= 1;
		TRY(task_write_type(t, at, s.attributes));
	}
	*to = s;
	return OK;
}
