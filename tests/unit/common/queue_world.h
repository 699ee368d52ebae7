/* SPDX-License-Identifier: Apache-2.0 */
/* Vcpus for the queues of the scheduler: what a host CPU does with the one that it gets. A tick is a nanosecond. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arch/x86_64/host.h"
#include "arch/x86_64/percpu.h"
#include "vm/machine/queue.h"

extern __thread unsigned test_cpu;
extern unsigned test_cpu_count, test_cpus_of_a_node;
extern uint64_t test_cpus_closed;

struct hv_caps hv_capabilities;

uint64_t host_ns_to_tsc(uint64_t ns)
{
	return ns;
}

/* Whose state each CPU holds. */
static struct vcpu *held[8];

/* As vcpu_switch_in() has it. */
static void world_load(struct vcpu *v)
{
	struct vcpu *other = held[test_cpu];

	if (other == v)
		return;
	if (other) {
		const struct cpu_set *allowed = other->allowed;
		bool movable = other->movable;

		__atomic_store_n(&other->loaded, false, __ATOMIC_RELEASE);
		if (movable)
			schedule_freed(allowed);
	}
	held[test_cpu] = v;
	__atomic_store_n(&v->loaded, true, __ATOMIC_RELAXED);
}

static void world_vcpu(struct vcpu *v, struct machine *m, unsigned weight, const struct cpu_set *allowed)
{
	*v = (struct vcpu){ .machine = m, .weight = weight, .allowed = allowed, .wakeup = UINT64_MAX };
	v->movable = __builtin_popcountll(allowed->word[0] & (BIT(test_cpu_count) - 1)) > 1;
	v->id = m->vcpu_count;
	m->vcpu[m->vcpu_count++] = v;
}
