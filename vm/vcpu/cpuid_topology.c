/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CPUID tells of sockets, cores and threads: in old leaves by numbers of addressable APIC ids, in newer ones by the widths of an
 * id's fields. Both follow from struct topology.
 *
 * Manual: Intel SDM vol. 3 section 9.9, vol. 2 CPUID leaves 1, 4, Bh, 1Fh; AMD APM vol. 3 section E.5, leaves 8000_0008,
 * 8000_001D, 8000_001E.
 */
#include "arch/x86_64/features.h"
#include "vm/vcpu/cpuid_policy.h"

uint32_t cpuid_apic_id(const struct vcpu *vcpu)
{
	return topology_apic_id(&vcpu->machine->cpuid->topology, vcpu->id);
}

/* Level 0: threads of a core; level 1: of a socket. x2APIC id in EDX. */
struct cpuid_result cpuid_levels(const struct vcpu *vcpu, uint32_t subleaf)
{
	const struct topology *t = &vcpu->machine->cpuid->topology;
	struct cpuid_result r = { .ecx = subleaf, .edx = cpuid_apic_id(vcpu) };

	if (subleaf == 0) {
		r.eax = t->core_shift;
		r.ebx = t->threads;
		r.ecx |= 1u << 8;
	} else if (subleaf == 1) {
		r.eax = t->socket_shift;
		r.ebx = t->cores * t->threads;
		r.ecx |= 2u << 8;
	}
	return r;
}

struct cpuid_result cpuid_amd_place(const struct vcpu *vcpu)
{
	const struct topology *t = &vcpu->machine->cpuid->topology;

	return (struct cpuid_result){ .eax = cpuid_apic_id(vcpu),
				      .ebx = (t->threads - 1) << 8 | vcpu->id / t->threads % t->cores,
				      .ecx = vcpu->id / (t->threads * t->cores) };
}

/* Caches of the first two levels are a core's, others a socket's. */
static void share(struct cpuid_result *cache, const struct topology *t)
{
	unsigned shift = (cache->eax >> 5 & 7) > 2 ? t->socket_shift : t->core_shift;

	if (cache->eax & 0x1f)
		cache->eax |= ((1u << shift) - 1) << 14;
}

/*
 * Of more than one thread AMD's processors tell in a leaf that those without it may be given, too.
 * CmpLegacy: HTT means cores, not threads.
 */
void cpuid_tell_topology(struct cpuid_policy *p)
{
	const struct topology *t = &p->topology;
	unsigned last = t->cores * t->threads - 1;

	for (unsigned i = 0; i < CACHE_SUBLEAVES; i++) {
		share(&p->cache[i], t);
		share(&p->amd_cache[i], t);
		if (p->cache[i].eax)
			p->cache[i].eax |= ((1u << (t->socket_shift - t->core_shift)) - 1) << 26;
	}
	p->basic[1].ebx |= 1u << t->socket_shift << 16;
	p->basic[1].edx |= last ? BIT(28) : 0;
	p->extended[8].ecx = t->socket_shift << 12 | last;
	if (!features.amd)
		return;
	p->extended[1].ecx |= last ? BIT(1) : 0;
	if (t->threads > 1 && p->extended_max < 0x8000001e)
		p->extended[0].eax = p->extended_max = 0x8000001e;
	p->extended[1].ecx |= t->threads > 1 ? BIT(22) : 0;
}
