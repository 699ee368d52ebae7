/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services of the host machine for the rooms above: clock, timer, calls between CPUs, power,
 * memory types, FPU state. Kernel only.
 */
#pragma once

#include "arch/x86_64/address.h"
#include "lib/status.h"

/* ---- time ---- */
uint64_t host_tsc_hz(void); /* measured once at boot; never 0 afterwards */
uint64_t host_now_ns(void); /* since boot, monotonic on each CPU */
/* Ticks by which this CPU's time stamp counter is ahead of the boot CPU's: as a rule 0. Others' don't tell when it is not. */
int64_t host_tsc_ahead(void);
uint64_t host_tsc_to_ns(uint64_t ticks);
uint64_t host_ns_to_tsc(uint64_t ns);
/* Do the counters of all CPUs show the same, and go on at one speed whatever the CPUs do? */
bool host_tsc_in_step(void);
/* One-shot timer of this CPU: an interrupt no earlier than this moment of host_now_ns(). UINT64_MAX: none. */
void host_timer_set(uint64_t deadline_ns);

/* ---- other CPUs ---- */
/*
 * Makes a CPU leave its guest or its sleep soon; on return the interrupt is on its way. A CPU that
 * is in the host anyway only takes a cheap interrupt. nmi: by NMI (see vmx's quirk), which is noted and returned from.
 */
void host_kick(unsigned cpu, bool nmi);
uint32_t host_apic_id(unsigned cpu);
/* Which memory is near it: the firmware's proximity domain (SRAT); 0 where it tells none. */
uint32_t host_node(unsigned cpu);
/* Kernel virtual address of a page-aligned 4 KiB per-CPU page for the vendor (VMXON region, host save area): zeroed, its hpa. */
hpa_t host_vendor_page(unsigned cpu);

/* ---- host state that backends restore on exit ---- */
struct host_descriptor_tables {
	uint64_t gdt_base, idt_base, tss_base, gs_base;
	uint16_t cs, ss, tr; /* data segments are null selectors */
};
void host_descriptor_tables(struct host_descriptor_tables *out); /* of the calling CPU */
/* For SVM: reloads TR after VMRUN is not needed with VMLOAD; for VMX: limits of GDT and IDT become 0xffff, this puts them right. */
void host_reload_table_limits(void);
/* After an NMI exit: runs the NMI handler's bookkeeping and unblocks NMIs with an IRET. */
void host_take_nmi(void);

/* ---- machine checks ---- */
/*
 * After an exit by a machine check: tells what the banks say. False: the guest can go on. True: its access met memory that is
 * broken, at *where, and only it needs to end. An error that concerns the host doesn't come back.
 */
bool host_machine_check(hpa_t *where) must_check;
/*
 * The next frame of memory that began to fail, as this CPU's banks say (they are asked first) or a machine check did; it is in use as before.
 * readable: it has been corrected each time; else its content is lost, and reading it a machine check. False: none.
 */
bool host_failing_memory(hpa_t *frame, bool *readable) must_check;

/* ---- memory types ---- */
#define MEMORY_TYPE_UC 0u
#define MEMORY_TYPE_WC 1u
#define MEMORY_TYPE_WT 4u
#define MEMORY_TYPE_WB 6u
/* MTRR type of [where, where + size); MEMORY_TYPE_MIXED when not uniform. Intel SDM vol. 3 section 12.11. */
#define MEMORY_TYPE_MIXED 0xffu
unsigned host_memory_type(hpa_t where, uint64_t size);

/* ---- FPU ---- */
/* The kernel itself never touches it; these save and restore a guest's. area is 64-byte aligned, host_fpu_size() bytes. */
size_t host_fpu_size(void);     /* for all features in host_xcr0() */
uint64_t host_xcr0(void);       /* what this host's guests may have; 0: no XSAVE (FXSAVE is used) */
void host_fpu_init(void *area); /* reset state */
/* Does XSAVEC, where there is one, do what the manual says? Leaves the registers in their initial state: at boot only. */
bool host_compacts_rightly(void);
void host_fpu_save(void *area);
void host_fpu_restore(const void *area);
/*
 * All bytes (up to 64) of a saved vector register, 0 to 31, or the 8 of an MMX register, from 32 on: *value is what it
 * holds, or is to hold. An access to an MMX register leaves x87 as such instructions do (Intel SDM vol. 1 section 9.5.1).
 */
void host_fpu_vector(void *area, unsigned number, bool write, uint8_t value[64]);
/* What FSTP, FNSTENV and FNSAVE do besides storing. */
enum host_x87 { HOST_X87_POP, HOST_X87_MASK, HOST_X87_RESET };
void host_fpu_x87(void *area, enum host_x87 what);
/* A guest's protection-key rights: in the area, or, area NULL, in this CPU. 0 where there are no protection keys. */
uint32_t host_pkru(const void *area);
/*
 * CR4.PKE on this CPU, so that a guest's rights are read without writing CR4, which serialises. The kernel has no user page, and keys
 * mean nothing for others (SDM vol. 3 section 4.6.2); a backend that knows better doesn't call it.
 */
void host_use_protection_keys(void);

/* ---- between machines ---- */
/* What one machine's guest has left in this CPU's predictors and buffers is to tell the next one's nothing. */
void host_forget_guest(void);

/* ---- consoles ---- */
/* Raw bytes to serial and framebuffer; from the boot CPU only. */
void console_write(const char *bytes, size_t length);
/* One byte from the serial port, or -1. From the boot CPU only. */
int console_read(void);
/* Takes what was typed out of the port, to be read later; when the boot CPU hasn't for CONSOLE_PATIENCE_NS some may be lost. */
#define CONSOLE_PATIENCE_NS UINT64_C(1000000)
void console_listen(void);
/* Is there anything to type on? */
bool console_can_read(void);
/* Carries what log_line() queued to the consoles; boot CPU only, bounded. When sink is set, lines go there instead. */
void log_drain(void);
void log_set_sink(void (*sink)(const char *line));
/* Lines of this level (LOG_..'s character) and graver ones are shown and replayed from now on; LOG_INFO's at first. */
void log_set_level(char level);
/* The kept log, newest last: calls line for each of the last `count`, as far as their level is shown. */
void log_replay(unsigned count, void (*line)(void *context, const char *text), void *context);

/* ---- power ---- */
/* Called on each CPU, in any context, when it stops for ever: it leaves virtualisation. NULL: nothing. */
extern void (*host_on_stop)(void);
_Noreturn void host_poweroff(
	void); /* ACPI S5 from FADT and DSDT's \_S5, else QEMU and Bochs ports (named quirks), else stops with a line */
_Noreturn void host_reboot(void);

/* ---- ACPI found at boot ---- */
/* First table with this signature, mapped, checksum good; NULL. */
const void *host_acpi_table(const char signature[4]);
