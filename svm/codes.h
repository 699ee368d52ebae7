/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers of SVM beside the VMCB's layout: intercept bits, exit codes, exit information, MSRs and CPUID bits.
 * AMD APM vol. 2: table B-1 (intercepts), appendix C (exit codes), 15.10.2 (IOIO), 15.25.6 (nested page faults),
 * 15.30 (MSRs); vol. 3 appendix E (CPUID 8000_000A).
 */
#pragma once

#include "lib/bits.h"

/* intercept[0] */
#define INTERCEPT1_INTR BIT(0)
#define INTERCEPT1_NMI BIT(1)
#define INTERCEPT1_SMI BIT(2)
#define INTERCEPT1_INIT BIT(3)
#define INTERCEPT1_VINTR BIT(4)
#define INTERCEPT1_CR0_SELECTIVE BIT(5) /* writes that change more than TS and MP */
#define INTERCEPT1_RDPMC BIT(15)
#define INTERCEPT1_CPUID BIT(18)
#define INTERCEPT1_RSM BIT(19)
#define INTERCEPT1_IRET BIT(20)
#define INTERCEPT1_INVD BIT(22)
#define INTERCEPT1_PAUSE BIT(23)
#define INTERCEPT1_HLT BIT(24)
#define INTERCEPT1_INVLPGA BIT(26)
#define INTERCEPT1_IOIO BIT(27)
#define INTERCEPT1_MSR BIT(28)
#define INTERCEPT1_TASK_SWITCH BIT(29)
#define TASK_INFO_IRET BIT(36) /* EXITINFO2 of a task switch: 15.14.1 */
#define TASK_INFO_JUMP BIT(38)
#define INTERCEPT1_SHUTDOWN BIT(31)

/* intercept[1] */
#define INTERCEPT2_VMRUN BIT(0)
#define INTERCEPT2_VMMCALL BIT(1)
#define INTERCEPT2_VMLOAD BIT(2)
#define INTERCEPT2_VMSAVE BIT(3)
#define INTERCEPT2_STGI BIT(4)
#define INTERCEPT2_CLGI BIT(5)
#define INTERCEPT2_SKINIT BIT(6)
#define INTERCEPT2_WBINVD BIT(9)
#define INTERCEPT2_MONITOR BIT(10)
#define INTERCEPT2_MWAIT BIT(11)
#define INTERCEPT2_MWAIT_ARMED BIT(12)
#define INTERCEPT2_XSETBV BIT(13)
#define INTERCEPT2_RDPRU BIT(14)

/* intercept[2]; only where the processor has the instruction */
#define INTERCEPT3_INVLPGB BIT(0)
#define INTERCEPT3_MCOMMIT BIT(3)
#define INTERCEPT3_TLBSYNC BIT(4)

/* Exit codes. */
#define SVM_EXIT_CR_READ 0x000u /* + number */
#define SVM_EXIT_CR_WRITE 0x010u
#define SVM_EXIT_DR_READ 0x020u
#define SVM_EXIT_DR_WRITE 0x030u
#define SVM_EXIT_EXCEPTION 0x040u /* + vector */
#define SVM_EXIT_INTR 0x060u
#define SVM_EXIT_NMI 0x061u
#define SVM_EXIT_SMI 0x062u
#define SVM_EXIT_INIT 0x063u
#define SVM_EXIT_VINTR 0x064u
#define SVM_EXIT_CR0_SELECTIVE 0x065u
#define SVM_EXIT_RDTSC 0x06eu
#define SVM_EXIT_RDPMC 0x06fu
#define SVM_EXIT_CPUID 0x072u
#define SVM_EXIT_RSM 0x073u
#define SVM_EXIT_IRET 0x074u
#define SVM_EXIT_INVD 0x076u
#define SVM_EXIT_PAUSE 0x077u
#define SVM_EXIT_HLT 0x078u
#define SVM_EXIT_INVLPG 0x079u
#define SVM_EXIT_INVLPGA 0x07au
#define SVM_EXIT_IOIO 0x07bu
#define SVM_EXIT_MSR 0x07cu
#define SVM_EXIT_TASK_SWITCH 0x07du
#define SVM_EXIT_SHUTDOWN 0x07fu
#define SVM_EXIT_VMRUN 0x080u
#define SVM_EXIT_VMMCALL 0x081u
#define SVM_EXIT_VMLOAD 0x082u
#define SVM_EXIT_VMSAVE 0x083u
#define SVM_EXIT_STGI 0x084u
#define SVM_EXIT_CLGI 0x085u
#define SVM_EXIT_SKINIT 0x086u
#define SVM_EXIT_RDTSCP 0x087u
#define SVM_EXIT_WBINVD 0x089u
#define SVM_EXIT_MONITOR 0x08au
#define SVM_EXIT_MWAIT 0x08bu
#define SVM_EXIT_MWAIT_ARMED 0x08cu
#define SVM_EXIT_XSETBV 0x08du
#define SVM_EXIT_RDPRU 0x08eu
#define SVM_EXIT_INVLPGB 0x0a0u
#define SVM_EXIT_MCOMMIT 0x0a3u
#define SVM_EXIT_TLBSYNC 0x0a4u
#define SVM_EXIT_LOW_END 0x0a5u /* first code behind the dense part */
#define SVM_EXIT_NPF 0x400u
#define SVM_EXIT_INVALID_LOW 0xffffffffu /* the low half of VMEXIT_INVALID: see quirks.h */

/* exit_info1 of IOIO */
#define IOIO_IN BIT(0)
#define IOIO_STRING BIT(2)
#define IOIO_REP BIT(3)
#define IOIO_SIZE_SHIFT 4 /* 3 bits, one set: 1, 2 or 4 bytes */
#define IOIO_PORT_SHIFT 16

/* exit_info1 of CR and DR accesses, with decode assists */
#define CR_INFO_MOV BIT(63)
#define CR_INFO_GPR BITS(3, 0)

/* exit_info1 of a nested page fault */
#define NPF_PRESENT BIT(0)
#define NPF_WRITE BIT(1)
#define NPF_USER BIT(2)
#define NPF_RESERVED BIT(3)
#define NPF_FETCH BIT(4)
#define NPF_FINAL BIT(32) /* the address that was to be accessed; or, the next, a table on the way to it */
#define NPF_GUEST_TABLE BIT(33)

/* MSRs */
#define MSR_VM_CR 0xc0010114u
#define VM_CR_LOCK BIT(3)
#define VM_CR_SVMDIS BIT(4)
#define VM_CR_ALL BITS(4, 0)
#define MSR_VM_HSAVE_PA 0xc0010117u

/* CPUID */
#define CPUID_EXTENDED_MAX 0x80000000u
#define CPUID_EXTENDED_FEATURES 0x80000001u
#define CPUID_ECX_SVM BIT(2)
#define CPUID_EDX_1G_PAGES BIT(26)
#define CPUID_ADDRESS_SIZES 0x80000008u
#define CPUID_EBX_MCOMMIT BIT(8)
#define CPUID_EBX_INVLPGB BIT(3)
#define CPUID_EBX_RDPRU BIT(4)
#define CPUID_SVM 0x8000000au
#define CPUID_SVM_NPT BIT(0)
#define CPUID_SVM_LOCK BIT(2) /* SVM can be unlocked by a key */
#define CPUID_SVM_NEXT_RIP BIT(3)
#define CPUID_SVM_TSC_RATE BIT(4)
#define CPUID_SVM_CLEAN BIT(5)
#define CPUID_SVM_FLUSH_ASID BIT(6)
#define CPUID_SVM_DECODE BIT(7)
#define CPUID_SVM_PAUSE_FILTER BIT(10)
#define CPUID_SVM_PAUSE_THRESHOLD BIT(12)
#define CPUID_SVM_VIRTUAL_LOAD_SAVE BIT(15)
#define CPUID_SVM_VIRTUAL_GIF BIT(16)
#define CPUID_SVM_SPEC_CTRL BIT(20)
