/* SPDX-License-Identifier: Apache-2.0 */
/* Where each host CPU counts: see the header. */
#include "pgm/counters.h"

struct pgm_vcpu_counters pgm_uncounted[MAX_CPUS];
struct pgm_vcpu_counters *pgm_counting[MAX_CPUS];
