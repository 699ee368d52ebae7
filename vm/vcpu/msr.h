/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rows of msr.c's table call: reads and writes of single MSRs by the guest, on the vcpu's own CPU. A read fills *value,
 * a write takes it; any status but OK is #GP, and nothing has changed; but NO_MEMORY and OVER_QUOTA: it is done again. Private to msr.c, msr_registers.c and pv.c.
 */
#pragma once

#include "vm/vcpu/vcpu.h"

typedef enum status msr_function(struct vcpu *vcpu, uint32_t msr, uint64_t *value);

msr_function msr_refuse, msr_ignore; /* always #GP; a write without effect */
msr_function msr_read_tsc, msr_write_tsc, msr_write_tsc_adjust;
msr_function msr_read_apic, msr_write_apic; /* IA32_APIC_BASE, TSC deadline, x2APIC */
msr_function msr_read_system, msr_write_system, msr_write_efer, msr_write_pat;
msr_function msr_read_spec_ctrl, msr_write_spec_ctrl, msr_read_capabilities;
msr_function msr_read_revision, msr_write_revision, msr_read_de_cfg;
msr_function msr_read_tsc_aux, msr_write_tsc_aux, msr_write_misc_enable;
msr_function msr_read_mtrr, msr_write_mtrr;
