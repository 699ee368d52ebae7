/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux' own interface for guests of KVM, so that unmodified kernels find their clock, their lost time and their wake-ups: the leaves
 * from 4000_0100h on, MSRs from 4B56_4D00h on, hypercalls by VMCALL or VMMCALL. pv = off hides all of it.
 *
 *   pv.c        leaves and MSRs: what there is, and where in the guest's memory
 *   pv_clock.c  the clock, and the wall clock
 *   pv_steal.c  time that the vcpu could have run and didn't; flushes for those that don't run
 *   pv_eoi.c    ends of interrupts without an exit
 *   pv_call.c   hypercalls: wake-ups, interrupts for many
 *
 * All of it is in the guest's RAM at addresses that it names: written by its own vcpu's CPU, while the vcpu isn't inside, by pgm's simple
 * writes, which touch no device and which a dirty log sees. Nothing there is believed.
 *
 * Linux Documentation/virt/kvm/x86/: cpuid.rst, msr.rst, hypercalls.rst.
 */
#pragma once

#include "vm/vcpu/msr.h"

#define PV_LEAF 0x40000100u
#define PV_CLOCK_SIZE 32u
#define PV_WALL_SIZE 12u

/* The two leaves from PV_LEAF on. */
void pv_tell(struct cpuid_result leaves[2]);
/* After power-on or INIT: the guest has named no place. */
void pv_reset(struct vcpu *vcpu);
msr_function pv_read_msr, pv_write_msr;

/* Is `size` bytes at `where` RAM, of one page, and aligned to `unit`? */
bool pv_place(const struct vcpu *vcpu, gpa_t where, unsigned size, unsigned unit);

/* Its place was named, or its time stamp counter was set: writes the clock anew. As pgm_write_simple(). */
enum status pv_clock_write(struct vcpu *vcpu) must_check;
/* What the wall clock shows at the clock's zero, at `where`. As pgm_write_simple(). */
enum status pv_wall_write(struct vcpu *vcpu, gpa_t where) must_check;

/* Its place was named. As pgm_write_simple(). */
enum status pv_steal_open(struct vcpu *vcpu) must_check;
/* The vcpu begins to run, on its CPU; it ends. */
void pv_steal_begin(struct vcpu *vcpu);
void pv_steal_end(struct vcpu *vcpu);

/* The guest has named a place (pv.eoi is odd), and its local APIC's vector is about to be injected. Before the entry. */
void pv_eoi_offer(struct vcpu *vcpu, uint8_t vector);
/* eoi_offered: at the exit, or if there was no entry; before anything else looks at the APIC. */
void pv_eoi_settle(struct vcpu *vcpu);
