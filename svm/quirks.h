/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What processors and emulators do otherwise than the manual says, and what this room does about it: the only place.
 *
 * Worked around when the machine is known to have it (svm_quirks, chosen once at start from CPUID's hypervisor leaf):
 * each member names one deviation. Anything that is right on every machine is done always and only told here:
 *
 *  - MOV to CR8 while V_IRQ is pending aborts QEMU: CR8 accesses are intercepted then (always, for the APIC model, but where a
 *    guest's guest has a V_TPR), and V_IRQ is set with V_IGN_TPR.
 *  - Reserved bits in a write of CR4 end in VMEXIT_INVALID on QEMU where #GP is due: CR4 writes are always
 *    intercepted, and vm/ checks them. The same for CR3 is left alone: it hurts only the guest that does it, which
 *    is stopped with EXIT_INVALID_STATE, and interception would cost every address space switch.
 *  - VMEXIT_INVALID reads 0x00000000ffffffff on QEMU: the low half is tested. The save area may then hold the
 *    host's state: nothing of it is ever copied to the vcpu.
 *  - INT3 is reported as type 4 (QEMU), a virtual interrupt as type 3: event.c takes both spellings.
 *  - Soft events push RIP as it is where next-RIP saving is absent: RIP is moved ahead before the entry and back if the
 *    delivery is broken off.
 *  - An injected NMI doesn't block NMIs on QEMU: blocking is kept in software and ended by the IRET intercept on
 *    every machine, as processors without virtual NMI need it.
 *  - V_IRQ set at entry with IF already 1 isn't noticed on Bochs: a window that is open already is reported without
 *    an entry.
 *  - EXITINTINFO may still hold an interrupt or NMI of an earlier entry on Bochs when the guest's own INT n breaks off:
 *    neither can come but by injection, so what this entry didn't inject is dropped.
 *  - At the exit of an intercepted write of CR0.PG, EFER.LMA is already what it would be behind it, on Bochs: it is
 *    taken from LME and PG, as the manual has it.
 *  - The single-step trap of an instruction that exits stays pending over #VMEXIT on Bochs, and strikes the host with the guest's GS and
 *    TR still in place: a #DB there is passed over (arch/x86_64/traps.asm).
 *  - VMRUN doesn't load CR2 on Bochs: it is in the processor before the entry, too, for an injected page fault and when
 *    another vcpu has run in between.
 *  - Left alone: a hardware task switch is QEMU's own, for it has no such intercept, and one that a nested fault breaks off in the
 *    middle has half happened: it doesn't come right any more.
 *  - Left alone: of INT n that meets a task gate Bochs says nothing in EXITINTINFO, where an earlier delivery may still stand; it has no
 *    way out of a guest in virtual-8086 mode; and DR6 is not yet set when #DB exits.
 *  - Left alone: Bochs takes no notice of next-RIP when a soft event is injected, and gives no exit for a host
 *    interrupt while the guest runs with IF clear all the time; VM_CR is not there (run it with ignore_bad_msrs=1).
 *  - Left alone: with several CPUs QEMU 7.2 sometimes ends a guest of its first one twice, by a nested fault at an address of the host's
 *    tables before the host's first instruction: another CPU's restoring of the FPU has written the flags back that the first #VMEXIT had
 *    cleared. The save area is the host's then, and the guest's state lost.
 *  - A guest's write of PAT reaches the host's on QEMU: always intercepted. So are VMLOAD and VMSAVE, which touch host-physical
 *    memory there, as on processors, unless CPUID tells of virtual ones.
 *  - Fields of a VMCB that the guest never set are not given values by INIT: reset sets all of them.
 *  - ASID range, nested CR3, PAT and TLB_CONTROL go unchecked on QEMU: they are made right here by construction.
 */
#pragma once

#include <stdbool.h>

struct svm_quirks {
	const char *machine;
	/* VMRUN enters without the interrupt shadow that the VMCB holds: no window may be opened until an instruction has run. */
	bool entry_drops_shadow;
	/*
	 * Breakpoints are armed by MOV to DR7, not by the DR7 that VMRUN loads, and #VMEXIT leaves them armed: accesses that
	 * set them must exit, and DR7 is written by hand around each entry. Those at addresses of the upper half, where the host
	 * is, never come.
	 */
	bool breakpoints_leak;
	/* The machine itself ends at a MOV to CR8 that doesn't exit while V_IRQ is pending. */
	bool priority_aborts;
	/*
	 * An interrupt that VMRUN has injected may be delivered a second time, whatever IF is by then, when the emulator's own loop is
	 * interrupted before the next exit or exception: the exit is brought about at once.
	 */
	bool injects_twice;
	/* XSETBV never exits: XCR0 is read back after each run. */
	bool xsetbv_silent;
	/* PDPTEs of PAE paging are marked accessed, in a bit that is reserved there. */
	bool marks_pdptes;
	/* Save area holds host state after VMEXIT_INVALID: not even good for finding out what was wrong. */
	bool invalid_shows_host;
};

extern struct svm_quirks svm_quirks;

/* Reads CPUID's hypervisor leaf and sets svm_quirks; once, from the boot CPU. */
void svm_quirks_detect(void);
