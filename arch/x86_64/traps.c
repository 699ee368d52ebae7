/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The IDT and what happens behind it. The kernel takes no exception in normal work: an
 * exception is a panic with all registers, but for the two MSR instructions that are allowed
 * to fault. Interrupts arrive only in interrupts_window() and interrupts_wait(): their
 * handlers acknowledge and count, the code that opened the window looks what is to do.
 */
#include "arch/x86_64/traps.h"

#include "arch/x86_64/apic.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/cpu_local.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/machine_check.h"
#include "arch/x86_64/paging.h"
#include "arch/x86_64/panic.h"
#include "arch/x86_64/shootdown.h"
#include "arch/x86_64/time.h"

/* Intel SDM vol. 3 section 6.14.1. */
struct gate {
	uint16_t offset_low, selector;
	uint8_t ist, type;
	uint16_t offset_middle;
	uint32_t offset_high, reserved;
};
_Static_assert(sizeof(struct gate) == 16, "as the processor reads it");

#define GATE_INTERRUPT 0x8eu /* present, ring 0, 64-bit interrupt gate */

static struct gate idt[256] __attribute__((aligned(4096)));

extern const uint64_t trap_stubs[256];
extern const char rdmsr_safe_instruction[], wrmsr_safe_instruction[], msr_safe_fault[];

static const char *const names[32] = {
	"#DE divide error",
	"#DB debug",
	"NMI",
	"#BP breakpoint",
	"#OF overflow",
	"#BR bound range",
	"#UD invalid opcode",
	"#NM no coprocessor",
	"#DF double fault",
	"coprocessor overrun",
	"#TS invalid TSS",
	"#NP segment not present",
	"#SS stack fault",
	"#GP general protection",
	"#PF page fault",
	[16] = "#MF x87 error",
	"#AC alignment check",
	"#MC machine check",
	"#XM SIMD error",
	"#VE virtualisation",
	"#CP control protection",
	[28] = "#HV hypervisor injection",
	"#VC VMM communication",
	"#SX security",
};

/* A page fault is always the end, and often of a stack that has run over: it gets a fresh one. */
static uint8_t ist_of(unsigned vector)
{
	return vector == VECTOR_DF || vector == VECTOR_PF ? IST_DOUBLE_FAULT
	       : vector == VECTOR_NMI                     ? IST_NMI
	       : vector == VECTOR_MC                      ? IST_MACHINE_CHECK
							  : 0;
}

void traps_init(void)
{
	for (unsigned v = 0; v < ARRAY_SIZE(idt); v++)
		idt[v] = (struct gate){
			.offset_low = (uint16_t)trap_stubs[v],
			.selector = SELECTOR_CODE,
			.ist = ist_of(v),
			.type = GATE_INTERRUPT,
			.offset_middle = (uint16_t)(trap_stubs[v] >> 16),
			.offset_high = (uint32_t)(trap_stubs[v] >> 32),
		};
}

void traps_load(void)
{
	const struct table_pointer pointer = { sizeof(idt) - 1, (uint64_t)idt };

	__asm__ volatile("lidt %0" : : "m"(pointer));
}

uint64_t traps_table(void)
{
	return (uint64_t)idt;
}

#define BACKTRACE_DEPTH 16u

/* Walks saved frame pointers; each is looked up in the page tables before it's read. */
static void print_backtrace(uint64_t rip, uint64_t rbp)
{
	panic_line("  at %016lx", rip);
	for (unsigned i = 0; i < BACKTRACE_DEPTH; i++) {
		const uint64_t *frame = (const uint64_t *)rbp;

		if (!rbp || rbp % 8 || !paging_is_mapped(rbp) || !paging_is_mapped(rbp + 8))
			break;
		if (!frame[1])
			break;
		panic_line("  from %016lx", frame[1]);
		if (frame[0] <= rbp)
			break;
		rbp = frame[0];
	}
}

static _Noreturn void die(const struct trap_frame *f)
{
	const char *name = f->vector < ARRAY_SIZE(names) && names[f->vector] ? names[f->vector] : "reserved exception";

	panic_begin();
	panic_line("%s (vector %lu), error %lx, in the hypervisor", name, f->vector, f->error);
	panic_line("rip %016lx  cs %04lx  rflags %08lx  rsp %016lx  ss %04lx", f->rip, f->cs, f->rflags, f->rsp, f->ss);
	panic_line("rax %016lx  rbx %016lx  rcx %016lx  rdx %016lx", f->rax, f->rbx, f->rcx, f->rdx);
	panic_line("rsi %016lx  rdi %016lx  rbp %016lx  r8  %016lx", f->rsi, f->rdi, f->rbp, f->r8);
	panic_line("r9  %016lx  r10 %016lx  r11 %016lx  r12 %016lx", f->r9, f->r10, f->r11, f->r12);
	panic_line("r13 %016lx  r14 %016lx  r15 %016lx", f->r13, f->r14, f->r15);
	panic_line("cr0 %08lx  cr2 %016lx  cr3 %016lx  cr4 %08lx", read_cr0(), read_cr2(), read_cr3(), read_cr4());
	print_backtrace(f->rip, f->rbp);
	panic_end();
}

void nmi_note(void)
{
	struct cpu *cpu = this_cpu();

	if (panic_stops_all()) {
		if (host_on_stop)
			host_on_stop();
		panic_stop_here();
	}
	shootdown_answer();
	cpu->nmi_count++;
}

const struct nmi_detour *nmi_detours;

static void nmi_in_kernel(struct trap_frame *frame)
{
	nmi_note();
	this_cpu()->nmi_came = true;
	for (unsigned i = 0; nmi_detours && i < 2; i++)
		if (frame->rip >= nmi_detours[i].first && frame->rip <= nmi_detours[i].last)
			frame->rip = nmi_detours[i].to;
}

static void interrupt(struct cpu *cpu, unsigned vector)
{
	switch (vector) {
	case VECTOR_TIMER:
		cpu->timer_count++;
		apic_end_of_interrupt();
		time_timer_fired(cpu);
		break;
	case VECTOR_KICK:
		cpu->kick_count++;
		apic_end_of_interrupt();
		break;
	case VECTOR_SPURIOUS:
		cpu->spurious_count++; /* never acknowledged: SDM vol. 3 section 11.9 */
		break;
	default:
		cpu->stray_count++;
		if (apic_in_service(vector))
			apic_end_of_interrupt();
	}
}

void trap_handle(struct trap_frame *frame)
{
	if (frame->vector == VECTOR_NMI) {
		nmi_in_kernel(frame);
	} else if (frame->vector >= 32) {
		interrupt(this_cpu(), (unsigned)frame->vector);
	} else if (frame->vector == VECTOR_GP &&
		   (frame->rip == (uint64_t)rdmsr_safe_instruction || frame->rip == (uint64_t)wrmsr_safe_instruction)) {
		frame->rip = (uint64_t)msr_safe_fault;
	} else if (frame->vector == VECTOR_MC && features.machine_check_banks) {
		machine_check_in_host();
	} else {
		die(frame);
	}
}
