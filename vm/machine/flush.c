/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's end of a flush of second-level translations: when this returns, no vcpu runs with an older generation, nor will one
 * enter before it has flushed. The vcpus are told and kicked all at once, and waited for afterwards: a kick's way takes
 * as long for many as for one. One that isn't in its guest is left where it is; it sees the request before it enters.
 *
 * (flush.pml: REQUEST, LOOK, KICK, AWAIT) of the models in tests/models; what goes before (flush.pml: CHANGE, GENERATION) is pgm's and
 * mm's.
 *
 * Called with any of the machine's locks held: see vm/vcpu/run.c for why nobody whom this waits for wants one.
 */
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "vm/machine/internal.h"

static unsigned cpu_of(const struct vcpu *v)
{
	return __atomic_load_n(&v->cpu, __ATOMIC_SEQ_CST);
}

/* One that is moved meanwhile has left its guest, and sees the request on its way in. */
static bool runs_stale(const struct vcpu *v, uint64_t generation)
{
	return cpu_of(v) != cpu_index() && __atomic_load_n(&v->in_guest, __ATOMIC_SEQ_CST) &&
	       __atomic_load_n(&v->flush_seen, __ATOMIC_ACQUIRE) < generation &&
	       (__atomic_load_n(&v->requests, __ATOMIC_ACQUIRE) & REQUEST_FLUSH);
}

void machine_sync_flush(struct flush_domain *domain, uint64_t generation)
{
	struct machine *m = domain->context;

	for (unsigned i = 0; i < m->vcpu_count; i++) {
		struct vcpu *v = m->vcpu[i];

		if (!v)
			continue;
		__atomic_fetch_or(&v->requests, REQUEST_FLUSH, __ATOMIC_SEQ_CST);
		if (runs_stale(v, generation))
			host_kick(cpu_of(v), hv_capabilities.kick_by_nmi);
	}
	for (unsigned i = 0; i < m->vcpu_count; i++)
		while (m->vcpu[i] && runs_stale(m->vcpu[i], generation))
			spin_pause();
}
