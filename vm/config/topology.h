/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a machine's vcpus are sockets, cores and threads, and the APIC ids that say so: thread, core and socket are fields of an
 * id, each as wide as it takes (Intel SDM vol. 3 section 9.9.1, AMD APM vol. 3 section E.5.1). So ids have holes where a number isn't a
 * power of two. CPUID, the APICs, the MADT and fw_cfg all take them from here. Pure functions of the configuration.
 */
#pragma once

#include "vm/config/config.h"

struct topology {
	unsigned sockets, cores, threads;  /* of a machine, a socket, a core */
	unsigned core_shift, socket_shift; /* where these fields begin in an APIC id */
};

/* As one number, as the key holds it. */
#define TOPOLOGY(sockets, cores, threads) ((uint64_t)(sockets) << 16 | (uint64_t)(cores) << 8 | (threads))

/* Of a machine without a mistake. */
struct topology topology_of(const struct config_machine *machine);
/* The APIC id of a vcpu. Less than topology_ids(). */
unsigned topology_apic_id(const struct topology *t, unsigned vcpu);
/* The other way; UINT_MAX: no vcpu has this id. */
unsigned topology_vcpu(const struct topology *t, unsigned apic_id);
/* More than the highest id; at most 128, so no id is the broadcast's. */
unsigned topology_ids(const struct topology *t);
