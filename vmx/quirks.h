/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an emulator differs from the manual, and what Quire does about it: all of it in this one
 * place, each with a name. Nothing here harms a processor that behaves. Numbers in brackets
 * are the traps of Bochs 2.7 as docs/testing.md lists them.
 *
 *   kick_by_nmi        [2] external-interrupt exiting doesn't interrupt a guest that keeps IF clear: other CPUs
 *                      are to kick it by NMI. One that comes between the last look at the requests and the entry is the host's:
 *                      it leaves a mark that enter.asm sees, or comes to where that gives the entry up.
 *   walk_reads         [7] with EPT accessed and dirty bits on, a walk of the guest's tables reports a write only,
 *                      where the manual (28.2.1, table 28-7) has it report a read too.
 *   kernel_keys        all bits of PKRU count for supervisor pages, too: a guest's would forbid the host its own memory, so the
 *                      host has CR4.PKE off.
 *   sipi_blocks_smi    [8] a SIPI exit leaves blocking by SMI behind, which the next entry refuses.
 *
 * One more has nothing to do with VMX and stands where it is tried out: host_compacts_rightly() [11] in arch/x86_64/fpu.c.
 *
 * Traps that need no branch, since the one right way serves both: an IRET after each NMI exit [3]; HLT is always
 * an exit and the activity state always active [4]; the monitor-trap flag isn't used [5].
 */
#pragma once

#include "arch/x86_64/hv.h"
#include "vmx/vmcs.h"

/* IA32_VMX_BASIC of Bochs: its own revision, and bit 49 (dual-monitor SMM) clear as on no Intel processor. */
#define QUIRK_BOCHS_VMX_BASIC UINT64_C(0x00d810000000002b)

static inline bool quirk_kick_by_nmi(uint64_t vmx_basic)
{
	return vmx_basic == QUIRK_BOCHS_VMX_BASIC;
}

static inline bool quirk_kernel_keys(uint64_t vmx_basic)
{
	return vmx_basic == QUIRK_BOCHS_VMX_BASIC;
}

/* No erratum of a real processor's TLB is to be feared there. */
static inline bool quirk_no_real_tlb(uint64_t vmx_basic)
{
	return vmx_basic == QUIRK_BOCHS_VMX_BASIC;
}

static inline uint8_t quirk_walk_reads(bool guest_table, uint8_t access)
{
	return guest_table && (access & ACCESS_WRITE) ? access | ACCESS_READ : access;
}

static inline bool quirk_sipi_blocks_smi(uint32_t basic_reason)
{
	return basic_reason == REASON_SIPI;
}
