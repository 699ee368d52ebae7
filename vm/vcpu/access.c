/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a vcpu touches outside its registers: memory by linear address (for the emulator), ports,
 * and second-level faults. Guest memory is reached through PGM only, page by page.
 */
#include <string.h>

#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "lib/format.h"
#include "pgm/shadow/a20.h"
#include "pgm/slat/misconfig.h"
#include "pgm/walk.h"
#include "vm/vcpu/nested.h"

#define PDPTE_ACCESSED BIT(5)

/*
 * PAE: Intel's processors hold the four PDPTEs since CR3 was loaded; under AMD's nested paging they are read from memory at
 * each walk (APM vol. 2 section 15.25.10), so the registers have none.
 */
void vcpu_fetch_pdptes(const struct vcpu *vcpu, struct walk_context *c, enum pgm_origin origin)
{
	gpa_t table = gpa(c->cr3 & BITS(31, 5) & ~c->a20_mask);

	if (hv_capabilities.slat == SLAT_EPT)
		memcpy(c->pdpte, vcpu->hv->pdpte, sizeof(c->pdpte));
	else if ((c->outer && !vcpu_through_outer(vcpu, &table)) ||
		 pgm_read(vcpu->machine->pgm, table, c->pdpte, sizeof(c->pdpte), origin, NULL) != OK)
		memset(c->pdpte, 0, sizeof(c->pdpte));
	for (unsigned i = 0; i < 4 && hv_capabilities.pdpte_marked; i++)
		c->pdpte[i] &= ~PDPTE_ACCESSED;
}

void vcpu_walk_context(struct vcpu *vcpu, struct walk_context *c)
{
	struct hv_vcpu *h = vcpu->hv;

	hv_need(h, REGS_CONTROL | REGS_RFLAGS | REGS_CODE);
	c->cr0 = h->cr0;
	c->cr3 = h->cr3;
	c->cr4 = h->cr4;
	c->efer = h->efer;
	c->rflags = h->rflags;
	c->a20_mask = __atomic_load_n(&vcpu->a20_mask, __ATOMIC_RELAXED);
	c->outer = vcpu_outer(vcpu) ? &vcpu->nested->state->slat : NULL;
	if ((c->cr0 & CR0_PG) && (c->cr4 & CR4_PAE) && !(c->efer & EFER_LMA))
		vcpu_fetch_pdptes(vcpu, c, ORIGIN_GUEST);
	c->pkru = c->cr4 & CR4_PKE ? host_pkru(vcpu->loaded ? NULL : vcpu->fpu) : 0;
	c->cpl = !(h->cr0 & CR0_PE) ? 0 : h->rflags & RFLAGS_VM ? 3 : SEG_ATTR_DPL(h->segment[SEG_SS].attributes);
	c->physical_bits = cpuid_physical_bits(vcpu->machine->cpuid);
	c->page_1g = cpuid_has_1g(vcpu->machine->cpuid);
	c->bit8_reserved = hv_capabilities.slat == SLAT_NPT;
}

/* Turns a walk's verdict into the exception that the guest sees. */
static enum status walk_fault(enum status status, const struct walk_result *r, gva_t where, struct hv_event *fault,
			      uint64_t *fault_address)
{
	if (status == GUEST_FAULT) {
		*fault = hv_exception(VECTOR_PF, true, r->error_code);
		*fault_address = where.v;
	} else if (status == BAD_VALUE) {
		*fault = hv_exception(VECTOR_GP, true, 0);
		status = GUEST_FAULT;
	}
	return status;
}

enum status vcpu_walk(struct vcpu *vcpu, gva_t where, unsigned access, gpa_t *to, struct hv_event *fault,
		      uint64_t *fault_address)
{
	struct walk_context c;
	struct walk_result r;
	enum status status;

	vcpu_walk_context(vcpu, &c);
	status = guest_walk(vcpu->machine->pgm, &c, where, access, &r);
	*to = r.gpa;
	if (unlikely(status == OUTER_FAULT) && r.outer.trapped && !(access & WALK_WIDE) &&
	    vcpu_nested_redirect(vcpu, &r.outer, to))
		return OK;
	if (unlikely(status == OUTER_FAULT)) {
		vcpu->nested->outer = r.outer;
		vcpu->nested->outer_waits = !(access & (WALK_PEEK | WALK_TRY));
	}
	return status == OK ? OK : walk_fault(status, &r, where, fault, fault_address);
}

static inline unsigned wide(unsigned size)
{
	return size > 4 ? WALK_WIDE : 0;
}

static enum status env_read(void *context, gva_t where, void *to, unsigned size, unsigned access, bool system,
			    struct hv_event *fault, uint64_t *fault_address)
{
	struct vcpu *vcpu = context;

	for (unsigned at = 0; at < size;) {
		gva_t here = gva(where.v + at);
		unsigned piece = (unsigned)min_u64(PAGE_SIZE - (here.v & (PAGE_SIZE - 1)), size - at);
		gpa_t from;

		TRY(vcpu_translate(vcpu, here, access | (system ? WALK_SYSTEM : 0) | wide(size), &from, fault,
				   fault_address));
		TRY(pgm_read(vcpu->machine->pgm, from, (uint8_t *)to + at, piece, ORIGIN_GUEST, NULL));
		at += piece;
	}
	return OK;
}

/* Both pages of a crossing write are walked before either is written. */
static enum status env_write(void *context, gva_t where, const void *from, unsigned size, bool system,
			     struct hv_event *fault, uint64_t *fault_address)
{
	unsigned first = (unsigned)min_u64(PAGE_SIZE - (where.v & (PAGE_SIZE - 1)), size);
	unsigned access = ACCESS_WRITE | (system ? WALK_SYSTEM : 0) | wide(size);
	struct vcpu *vcpu = context;
	struct pgm *pgm = vcpu->machine->pgm;
	gpa_t to, next;

	TRY(vcpu_translate(vcpu, where, access, &to, fault, fault_address));
	if (first < size)
		TRY(vcpu_translate(vcpu, gva(where.v + first), access, &next, fault, fault_address));
	TRY(pgm_write(pgm, to, from, first, ORIGIN_GUEST, NULL));
	return first < size ? pgm_write(pgm, next, (const uint8_t *)from + first, size - first, ORIGIN_GUEST, NULL)
			    : OK;
}

/*
 * Aligned locked instructions on memory are atomic, CMPXCHG16B excepted. A device's register may read otherwise each
 * time, so that a comparison might never succeed: there the emulator just writes.
 */
static enum status env_compare_exchange(void *context, gva_t where, const void *expected, const void *desired,
					void *seen, unsigned size, struct hv_event *fault, uint64_t *fault_address)
{
	struct vcpu *vcpu = context;
	uint64_t want = 0, give = 0, old = 0;
	enum status status;
	gpa_t to;

	if (size > 8 || where.v & (size - 1))
		return NOT_SUPPORTED;
	TRY(vcpu_translate(vcpu, where, ACCESS_WRITE | wide(size), &to, fault, fault_address));
	memcpy(&want, expected, size);
	memcpy(&give, desired, size);
	status = pgm_compare_exchange(vcpu->machine->pgm, to, want, give, size, &old);
	memcpy(seen, &old, size);
	return status == HANDLER || status == BAD_ADDRESS ? NOT_SUPPORTED : status;
}

void vcpu_emulate_env(struct vcpu *vcpu, struct emulate_env *env)
{
	env->context = vcpu;
	env->read = env_read;
	env->write = env_write;
	env->compare_exchange = env_compare_exchange;
	env->vector = vcpu_vector;
	env->port_in = vcpu_port_in;
	env->port_out = vcpu_port_out;
	env->decoded = &vcpu->decoded;
	env->byte_count = 0;
}

enum status vcpu_peek(struct vcpu *vcpu, gva_t where, void *to, unsigned size)
{
	struct hv_event fault;
	uint64_t address;

	return env_read(vcpu, where, to, size, WALK_PEEK, false, &fault, &address);
}

#define PARK_NS UINT64_C(100000000)
#define WAITS_TOLD 64u /* by the log, then those whose number is a power of two: there may be ten a second for hours */

enum exit_action vcpu_park(struct vcpu *vcpu, const char *why)
{
	vcpu->activity = VCPU_PARKED;
	vcpu->parked_until = rdtsc() + host_ns_to_tsc(PARK_NS);
	if (*vcpu->park_text)
		return ACTION_HALT;
	format_string(vcpu->park_text, sizeof(vcpu->park_text), "%s", why);
	vcpu->parks++;
	vcpu->park_told = vcpu->parks < WAITS_TOLD || !(vcpu->parks & (vcpu->parks - 1));
	if (vcpu->park_told)
		log_line(LOG_WARNING "vm %s: vcpu %u waits for memory: %s", vcpu->machine->name, vcpu->id, why);
	return ACTION_HALT;
}

void vcpu_got_on(struct vcpu *vcpu)
{
	if (likely(!*vcpu->park_text))
		return;
	if (vcpu->park_told)
		log_line("vm %s: vcpu %u goes on: memory has come back", vcpu->machine->name, vcpu->id);
	vcpu->park_text[0] = 0;
}

/*
 * The delivery of an event wanted what only the emulator reaches: a stack, a descriptor table or a TSS in a device's
 * page, say. The instruction at RIP isn't the one that faulted, and deliveries aren't emulated.
 */
static enum exit_action undeliverable(struct vcpu *vcpu)
{
	const struct hv_exit *exit = &vcpu->hv->exit;

	return vcpu_fails(vcpu, "event %#x can't be delivered by way of gpa %#lx: no plain memory",
			  exit->interrupted.vector, (exit->slat.gpa.v & ~(PAGE_SIZE - 1)));
}

enum exit_action exit_emulate(struct vcpu *vcpu)
{
	struct emulate_env env;

	if (unlikely(vcpu->hv->exit.interrupted.kind != EVENT_NONE))
		return undeliverable(vcpu);
	vcpu_emulate_env(vcpu, &env);
	switch (emulate_instruction(vcpu->hv, &env)) {
	case EMULATE_DONE:
	case EMULATE_FAULT: vcpu_got_on(vcpu); return ACTION_ENTER;
	case EMULATE_STOP:
		if (vcpu_reflect_outer(vcpu))
			return ACTION_SWITCH;
		return vcpu_park(vcpu, "no memory for an access by the emulator");
	default: return exit_unhandled(vcpu, &env);
	}
}

enum exit_action exit_slat_misconfig(struct vcpu *vcpu)
{
	pgm_count_misconfig(vcpu->machine->pgm);
	return vcpu_mmio(vcpu) ? ACTION_ENTER : exit_emulate(vcpu);
}

static enum pgm_verdict take_fault(struct vcpu *vcpu, gpa_t where, unsigned access)
{
	struct pgm *pgm = vcpu->machine->pgm;
	uint64_t since = rdtsc(), spent;
	enum pgm_verdict verdict;

	if (unlikely(__atomic_load_n(&vcpu->a20_mask, __ATOMIC_RELAXED)))
		verdict = pgm_a20_fault(pgm, where, access);
	else
		verdict = pgm_take_fault(pgm, where, access, true, &vcpu->counters);
	spent = rdtsc() - since;
	if (unlikely(spent > vcpu->longest_fault)) {
		vcpu->longest_fault = spent;
		schedule_note(STRETCH_FAULT, since);
	}
	return verdict;
}

enum exit_action exit_slat_fault(struct vcpu *vcpu)
{
	const struct hv_exit *exit = &vcpu->hv->exit;

	vcpu_count_fault(vcpu);
	switch (take_fault(vcpu, exit->slat.gpa, exit->slat.access)) {
	case PGM_RESUME: vcpu_got_on(vcpu); return ACTION_ENTER;
	case PGM_EMULATE: return vcpu_mmio(vcpu) ? ACTION_ENTER : exit_emulate(vcpu);
	case PGM_NO_MEMORY: return vcpu_park(vcpu, "no memory");
	default:
		return vcpu_fails(vcpu, "access %#x to gpa %#lx can't be satisfied", exit->slat.access,
				  exit->slat.gpa.v);
	}
}
