/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hardware task switches that the processor only reports: all under VMX, and under SVM where they can be intercepted (QEMU carries
 * them out). Intel SDM vol. 3 sections 8.2, 8.3, 26.4.2; AMD APM vol. 2 sections 12, 15.14.1.
 *
 * Until enter_task() every fault is the old task's and leaves it as it was, but for what its own TSS says of it, which it will
 * say again. From there on faults are the new task's: its selectors are loaded, what one of them names may not be. Privileges of
 * the caller have been checked by the processor; what it has read of the tables is read again, and each piece once.
 */
#include <string.h>

#include "vm/vcpu/task.h"

static const struct task_format tss_16 = { 2, 0x0e, 0x12, 0x22, 4, 0x2a, 0x2c };
static const struct task_format tss_32 = { 4, 0x20, 0x28, 0x48, 6, 0x60, 0x68 };

#define LARGEST_SAVED 0x40u /* from ip up to ldt */
#define TSS_CR3 0x1cu
#define TSS_TRAP 0x64u
#define TYPE_BUSY 0x2u
#define TYPE_32 0x8u
#define TYPE_TSS(attributes) (((attributes)&0x1f) | TYPE_BUSY | TYPE_32) /* 0xb for all four kinds */
#define ATTRIBUTES_V86 0xf3u
#define EFLAGS_FIXED BIT(1)
#define EFLAGS_DEFINED (BITS(21, 16) | BITS(14, 6) | BIT(4) | BIT(2) | BIT(0))
#define DR7_LOCAL (BIT(0) | BIT(2) | BIT(4) | BIT(6) | BIT(8))
#define DR6_TASK BIT(15)

_Static_assert(LARGEST_SAVED >= 0x60 - 0x20, "what one write saves");

static uint32_t field(const uint8_t *image, unsigned at, unsigned size)
{
	uint32_t value = 0;

	memcpy(&value, image + at, size);
	return value;
}

/* ---- the old task ---- */

/* The new TSS's descriptor, and all that it holds. */
static enum status find_task(struct task_switch *t, uint64_t *at)
{
	bool back = t->source == TASK_IRET;
	uint8_t wrong = back ? VECTOR_TS : VECTOR_GP;

	if (t->selector & TASK_TABLE_LDT)
		return task_fault(t, wrong, t->selector);
	TRY(task_read_descriptor(t, t->selector, wrong, &t->tss, at));
	if (TYPE_TSS(t->tss.attributes) != 0xb || !(t->tss.attributes & 1) || !(t->tss.attributes & TYPE_BUSY) == back)
		return task_fault(t, wrong, t->selector);
	if (!(t->tss.attributes & SEG_ATTR_PRESENT))
		return task_fault(t, VECTOR_NP, t->selector);
	t->format = t->tss.attributes & TYPE_32 ? &tss_32 : &tss_16;
	if (t->tss.limit < t->format->size - 1u)
		return task_fault(t, VECTOR_TS, t->selector);
	return task_read(t, t->tss.base, t->image, t->format->size);
}

static void put(uint8_t *image, const struct task_format *f, unsigned at, uint64_t value)
{
	memcpy(image + at - f->ip, &value, f->word);
}

/* It goes on behind the instruction; an exception's or interrupt's task goes on where that struck. */
static bool by_instruction(const struct task_switch *t)
{
	const struct hv_event *event = &t->h->exit.interrupted;

	return t->source != TASK_GATE || event->kind == EVENT_SOFT_INTERRUPT || event->soft;
}

static enum status save_task(struct task_switch *t)
{
	struct hv_vcpu *h = t->h;
	const struct segment *old = &h->segment[SEG_TR];
	const struct task_format *f = old->attributes & TYPE_32 ? &tss_32 : &tss_16;
	uint64_t flags = h->rflags & ~(t->source == TASK_IRET ? RFLAGS_NT : 0), ip = h->rip;
	uint8_t image[LARGEST_SAVED] = { 0 };

	if (old->limit < f->size - 1u)
		return task_fault(t, VECTOR_TS, old->selector);
	if (by_instruction(t))
		ip += h->exit.length;
	put(image, f, f->ip, ip);
	put(image, f, f->ip + f->word, flags);
	for (unsigned i = 0; i < 8; i++)
		put(image, f, f->gprs + i * f->word, h->gpr[i]);
	for (unsigned i = 0; i < f->selector_count; i++)
		put(image, f, f->selectors + i * f->word, h->segment[i].selector);
	return task_write(t, old->base + f->ip, image, f->ldt - f->ip, true);
}

/*
 * Busy bits and the link back. A task that is left by JMP or IRET is free again, one that is called is taken: last of all, since what is
 * refused on the way here comes again from the beginning, where a busy task would be a wrong one.
 */
static enum status note_change(struct task_switch *t, uint64_t at)
{
	const struct segment *old = &t->h->segment[SEG_TR];
	bool nested = t->source == TASK_CALL || t->source == TASK_GATE;

	if (nested)
		TRY(task_write(t, t->tss.base, &old->selector, sizeof(old->selector), true));
	else
		TRY(task_write_type(t, t->h->gdtr.base + (old->selector & 0xfff8), old->attributes & ~TYPE_BUSY));
	if (t->source != TASK_IRET)
		TRY(task_write_type(t, at, t->tss.attributes | TYPE_BUSY));
	t->tss.attributes |= TYPE_BUSY;
	return OK;
}

/* ---- the new task ---- */

/* Registers and selectors as its TSS has them; a segment is no more than its selector yet. */
static void enter_task(struct task_switch *t)
{
	const struct task_format *f = t->format;
	struct hv_vcpu *h = t->h;
	uint64_t high = f->word == 2 ? 0xffff0000 : 0; /* what a 16-bit TSS leaves of a register */

	h->rip = field(t->image, f->ip, f->word);
	h->rflags = (field(t->image, f->ip + f->word, f->word) & EFLAGS_DEFINED) | EFLAGS_FIXED;
	if (t->source == TASK_CALL || t->source == TASK_GATE)
		h->rflags |= RFLAGS_NT;
	for (unsigned i = 0; i < 8; i++)
		h->gpr[i] = high | field(t->image, f->gprs + i * f->word, f->word);
	for (unsigned i = 0; i < 6; i++)
		h->segment[i] = (struct segment){ 0 };
	for (unsigned i = 0; i < f->selector_count; i++)
		h->segment[i].selector = (uint16_t)field(t->image, f->selectors + i * f->word, 2);
	h->segment[SEG_LDTR] = (struct segment){ .selector = (uint16_t)field(t->image, f->ldt, 2) };
	h->segment[SEG_TR] = t->tss;
	h->cr0 |= CR0_TS;
	h->dr[7] &= ~(uint64_t)DR7_LOCAL;
	h->interrupt_shadow = false;
	/* Until they are loaded: a handler of a fault in between needs a privilege level, and a CS that is one. */
	h->segment[SEG_CS].attributes = (uint16_t)(0xc09b | (h->segment[SEG_CS].selector & 3) << 5);
	h->segment[SEG_CS].limit = UINT32_MAX;
	h->segment[SEG_SS].attributes = (uint16_t)((h->segment[SEG_CS].selector & 3) << 5);
	hv_changed(h, REGS_ALL & ~REGS_SYSTEM);
}

static void load_v86(struct hv_vcpu *h)
{
	for (unsigned i = 0; i < 6; i++)
		h->segment[i] = (struct segment){ .base = (uint64_t)h->segment[i].selector << 4,
						  .limit = 0xffff,
						  .selector = h->segment[i].selector,
						  .attributes = ATTRIBUTES_V86 };
}

static enum status load_task(struct task_switch *t)
{
	static const uint8_t order[] = { SEG_CS, SEG_SS, SEG_DS, SEG_ES, SEG_FS, SEG_GS };
	struct hv_vcpu *h = t->h;
	unsigned cpl = h->segment[SEG_CS].selector & 3;

	if (t->format == &tss_32 && (h->cr0 & CR0_PG) && !vcpu_write_cr3(t->vcpu, field(t->image, TSS_CR3, 4)))
		return task_fault(t, VECTOR_TS, t->selector);
	TRY(task_load_ldt(t));
	if (h->rflags & RFLAGS_VM) {
		load_v86(h);
		return OK;
	}
	for (unsigned i = 0; i < sizeof(order); i++)
		TRY(task_load_segment(t, order[i], cpl));
	return OK;
}

/* What the exception that led here pushes: in the words of the new TSS, on the new stack. */
static enum status push_error(struct task_switch *t, uint32_t error)
{
	struct hv_vcpu *h = t->h;
	const struct segment *stack = &h->segment[SEG_SS];
	uint64_t mask = stack->attributes & SEG_ATTR_DB ? BITS(31, 0) : BITS(15, 0);
	uint64_t top = (h->gpr[GPR_RSP] - t->format->word) & mask;
	bool down = (stack->attributes & 0xc) == 4 && !(h->rflags & RFLAGS_VM);

	if (down ? top <= stack->limit : top + t->format->word - 1u > stack->limit)
		return task_fault(t, VECTOR_SS, 0);
	TRY(task_write(t, stack->base + top, &error, t->format->word, false));
	h->gpr[GPR_RSP] = (h->gpr[GPR_RSP] & ~mask) | top;
	return OK;
}

static enum status switch_task(struct task_switch *t)
{
	struct hv_vcpu *h = t->h;
	const struct hv_event event = h->exit.interrupted;
	uint64_t at;

	TRY(find_task(t, &at));
	TRY(save_task(t));
	TRY(note_change(t, at));
	enter_task(t);
	t->entered = true;
	if (t->source == TASK_IRET || event.kind == EVENT_NMI)
		h->nmi_blocked = event.kind == EVENT_NMI;
	if (event.kind != EVENT_EXCEPTION)
		h->inject.kind = EVENT_NONE; /* delivered; a fault now doubles an exception only */
	TRY(load_task(t));
	if (t->source == TASK_GATE && event.has_error_code)
		TRY(push_error(t, event.error_code));
	h->inject.kind = EVENT_NONE;
	if (t->format == &tss_32 && (t->image[TSS_TRAP] & 1)) {
		hv_note_debug(h, DR6_TASK);
		vcpu_inject_exception(t->vcpu, VECTOR_DB, false, 0);
	}
	return OK;
}

enum exit_action exit_task_switch(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	const struct hv_event *event = &h->exit.interrupted;
	struct task_switch t = {
		.vcpu = vcpu, .h = h, .source = h->exit.task.source, .selector = h->exit.task.selector
	};
	enum status status;

	vcpu_emulate_env(vcpu, &t.env);
	if (by_instruction(&t) && !h->exit.length) {
		enum emulate_result result;

		h->exit.length = (uint8_t)emulate_length(h, &t.env, &result);
	}
	hv_need(h, REGS_ALL & ~REGS_SYSTEM);
	t.external = event->kind == EVENT_INTERRUPT || event->kind == EVENT_NMI ||
		     (event->kind == EVENT_EXCEPTION && !event->soft);
	status = switch_task(&t);
	/* A hypervisor's tables refuse: it gets its exit. Of a guest that is in its new task already the loss is its own, not the hypervisor's. */
	if (status == OK || status == GUEST_FAULT || status == OUTER_FAULT) {
		vcpu_got_on(vcpu);
		return ACTION_ENTER;
	}
	if (status_is_shortage(status) && !t.entered)
		return vcpu_park(vcpu, "no memory for a task switch");
	return vcpu_fails(vcpu, "task switch to %#x at rip %#llx: %s", t.selector, (unsigned long long)h->rip,
			  status_text(status));
}
