/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock is the guest's own time stamp counter, scaled. All counters of a machine stand still together while it is paused, go on
 * together, and are the same on each of the host's CPUs (vm/machine/end.c, schedule.c): so one straight line serves a vcpu for as long
 * as it lives, and all vcpus are on the same one, from zero at the machine's start or reset on. What the guest itself adds to its counter is
 * IA32_TSC_ADJUST, and where the line begins.
 *
 * A reader takes what it read when the version was even and the same before and after: an odd one is written first, the rest then,
 * the next even one last, each by a write of its own, which no processor of this kind puts in another order.
 */
#include "vm/vcpu/pv.h"

#include "arch/x86_64/host.h"
#include "dev/clock.h"

/* Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_WALL_CLOCK_NEW. */
struct pv_clock {
	uint32_t version, pad;
	uint64_t tsc;   /* guest TSC at which it showed */
	uint64_t time;  /* so many nanoseconds */
	uint32_t scale; /* nanoseconds = ((TSC - tsc) << shift) * scale >> 32 */
	int8_t shift;
	uint8_t flags, reserved[2];
};
_Static_assert(sizeof(struct pv_clock) == PV_CLOCK_SIZE, "the layout that guests know");

struct pv_wall {
	uint32_t version, seconds, nanoseconds;
};
_Static_assert(sizeof(struct pv_wall) == PV_WALL_SIZE, "the layout that guests know");

#define FLAG_STABLE 1u /* the same on all vcpus */

/* A structure that begins with its version, whose number is the vcpu's own for all of them. */
static enum status write_versioned(struct vcpu *vcpu, gpa_t where, void *data, size_t size)
{
	struct pgm *pgm = vcpu->machine->pgm;
	uint32_t *version = data;

	*version = vcpu->pv.version | 1;
	vcpu->pv.version += 2;
	TRY(pgm_write_simple(pgm, where, version, sizeof(*version)));
	TRY(pgm_write_simple(pgm, gpa(where.v + sizeof(*version)), version + 1, size - sizeof(*version)));
	*version = vcpu->pv.version;
	return pgm_write_simple(pgm, where, version, sizeof(*version));
}

/* 31 to 32 bits of precision. */
static void set_scale(struct pv_clock *c)
{
	uint64_t scale;

	while ((scale = host_tsc_to_ns(UINT64_C(1) << (32 - c->shift))) >> 32)
		c->shift++;
	while (!(scale >> 31))
		scale = host_tsc_to_ns(UINT64_C(1) << (32 - --c->shift));
	c->scale = (uint32_t)scale;
}

enum status pv_clock_write(struct vcpu *vcpu)
{
	struct pv_clock c = { .tsc = vcpu->msr.tsc_adjust, .flags = host_tsc_in_step() ? FLAG_STABLE : 0 };

	if (!(vcpu->pv.clock & 1))
		return OK;
	set_scale(&c);
	return write_versioned(vcpu, gpa(vcpu->pv.clock - 1), &c, sizeof(c));
}

enum status pv_wall_write(struct vcpu *vcpu, gpa_t where)
{
	uint64_t since = host_tsc_to_ns(rdtsc() + vcpu->l1->tsc_offset - vcpu->msr.tsc_adjust), now, start;
	struct pv_wall w;

	lock_acquire(&vcpu->machine->lock);
	now = board_wall_clock(vcpu->machine->board);
	lock_release(&vcpu->machine->lock);
	start = now > since ? now - since : 0;
	w = (struct pv_wall){ .seconds = (uint32_t)(start / NANOSECONDS),
			      .nanoseconds = (uint32_t)(start % NANOSECONDS) };
	return write_versioned(vcpu, where, &w, sizeof(w));
}
