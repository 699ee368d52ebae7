/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host processor offers, read once on the boot CPU, and the control registers that
 * follow from it, set alike on every CPU. Nothing that CPUID doesn't offer is ever tried: some
 * emulators triple-fault on a reserved bit.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct features {
	char vendor[13], brand[49];
	uint32_t max_leaf, max_extended;
	uint8_t physical_bits, linear_bits;
	bool amd; /* AuthenticAMD or HygonGenuine: the MSRs of that family are there */
	bool nx, gigabyte_pages, global_pages, pat, mtrr;
	bool machine_check, machine_check_banks, mca_recovery;
	bool x2apic, tsc_deadline, invariant_tsc, tsc_adjust, rdtscp;
	bool xsave, xsaveopt, fxsave;
	bool xsavec;               /* and it works: host_compacts_rightly() */
	bool restores_fp_pointers; /* XRSTOR and FXRSTOR always do, not just with an exception pending */
	bool smep, smap, umip, pku, fsgsbase, pcid, la57;
	bool xd_was_off; /* by firmware; the trampoline undoes it on the other CPUs */
	bool hypervisor; /* runs under another hypervisor */
	/* speculation.c's; some are found out only there. */
	bool ibpb, md_clear;               /* what host_forget_guest() has */
	bool sbpb, ibpb_forgets_types;     /* IBPB of chosen predictions; IBPB of branches' types */
	bool spec_ctrl, arch_capabilities; /* these MSRs are there */
	bool ibrs_stays, auto_ibrs;        /* IBRS that is set once: in SPEC_CTRL, in EFER */
	bool lfence_serialises;            /* as AMD's DE_CFG[1] has it */
	uint64_t host_spec_ctrl;           /* what SPEC_CTRL holds outside guests */
	uint64_t capabilities_value,
		microcode; /* IA32_ARCH_CAPABILITIES, IA32_BIOS_SIGN_ID as they read; 0 without them */
};

/* Zero until features_init(); constant afterwards. */
extern struct features features;

/* The text names what the kernel can't do without; NULL: all is there. */
const char *features_init(void);
/*
 * Calling CPU, before its control registers: a feature that the boot CPU has and it hasn't; NULL: none. CR4, XCR0 and
 * what is saved of a guest are the boot CPU's everywhere.
 */
const char *features_missing_here(void);

/* PAT entries 0-4, 6, 7 as after reset; entry 5 is write combining. Intel SDM vol. 3 section 12.12. */
#define HOST_PAT UINT64_C(0x0007010600070406)

/* EFER.NXE and PAT, before the switch to our page tables. */
void processor_before_paging(void);
/* CR0, CR4, XCR0 on the calling CPU, on our page tables. Its exceptions are caught already. */
void processor_control_registers(void);
/* speculation.c: what is set once on each CPU against speculation and errata; the boot CPU's finds out what there is. */
void speculation_open_cpu(void);
