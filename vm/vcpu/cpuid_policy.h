/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CPUID tells a machine's guests, made once when it starts: cpuid_policy.c fills it, cpuid.c answers out of it. Nobody
 * but files of that name includes this. Constant while the machine lives.
 */
#pragma once

#include "vm/config/topology.h"
#include "vm/vcpu/vcpu.h"

#define BASIC_LEAVES 0x20u
#define EXTENDED_LEAF 0x80000000u
#define EXTENDED_LEAVES 0x22u
#define HYPERVISOR_LEAF 0x40000000u
#define HYPERVISOR_LAST 0x40000010u
#define CACHE_SUBLEAVES 8u
#define FEATURE_SUBLEAVES 3u
#define XSAVE_SUBLEAVES 20u

enum cpuid_register { EAX, EBX, ECX, EDX };

struct cpuid_policy {
	struct cpuid_result basic[BASIC_LEAVES], extended[EXTENDED_LEAVES];
	/* By subleaf: of 4, 7, 0xd and 8000_001D; the places above stay empty. */
	struct cpuid_result cache[CACHE_SUBLEAVES], features[FEATURE_SUBLEAVES], xsave[XSAVE_SUBLEAVES];
	struct cpuid_result amd_cache[CACHE_SUBLEAVES];
	struct cpuid_result hypervisor, timing, pv[2];
	uint32_t basic_max, extended_max;
	struct topology topology;
	uint64_t limits[CPUID_LIMITS];
	uint8_t physical_bits;
};

/*
 * The place of a leaf's subleaf, NULL where the policy has none. Leaves without subleaves give the same for each. The extended
 * maximum is not looked at.
 */
struct cpuid_result *cpuid_place(struct cpuid_policy *policy, uint32_t leaf, uint32_t subleaf);
/* The register's word of a leaf that has a place. */
uint32_t *cpuid_word(struct cpuid_policy *policy, uint32_t leaf, uint32_t subleaf, enum cpuid_register which);
/* cpuid_limits.c: the limits, from the rest of the policy. */
void cpuid_fill_limits(struct cpuid_policy *policy);
/* cpuid_topology.c: what all vcpus are told; leaves Bh and 1Fh, 8000_001E (a node is a socket), and the APIC id, of one. */
void cpuid_tell_topology(struct cpuid_policy *policy);
struct cpuid_result cpuid_levels(const struct vcpu *vcpu, uint32_t subleaf);
struct cpuid_result cpuid_amd_place(const struct vcpu *vcpu);
uint32_t cpuid_apic_id(const struct vcpu *vcpu);
