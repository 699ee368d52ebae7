/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets, cores, threads and the APIC ids that they make: see the header. */
#include "vm/config/topology.h"

#include <limits.h>

static unsigned width(unsigned count)
{
	unsigned bits = 0;

	while ((1u << bits) < count)
		bits++;
	return bits;
}

struct topology topology_of(const struct config_machine *machine)
{
	uint64_t key = machine->topology;
	struct topology t = { .sockets = (unsigned)(key >> 16),
			      .cores = (unsigned)(key >> 8 & 0xff),
			      .threads = (unsigned)(key & 0xff) };

	t.core_shift = width(t.threads);
	t.socket_shift = t.core_shift + width(t.cores);
	return t;
}

unsigned topology_apic_id(const struct topology *t, unsigned vcpu)
{
	unsigned core = vcpu / t->threads;

	return core / t->cores << t->socket_shift | core % t->cores << t->core_shift | vcpu % t->threads;
}

unsigned topology_vcpu(const struct topology *t, unsigned apic_id)
{
	unsigned socket = apic_id >> t->socket_shift,
		 core = (apic_id >> t->core_shift) - (socket << (t->socket_shift - t->core_shift));
	unsigned thread = apic_id & ((1u << t->core_shift) - 1);

	if (socket >= t->sockets || core >= t->cores || thread >= t->threads)
		return UINT_MAX;
	return (socket * t->cores + core) * t->threads + thread;
}

unsigned topology_ids(const struct topology *t)
{
	return t->sockets << t->socket_shift;
}
