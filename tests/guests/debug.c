/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The debug registers at work: breakpoints on instructions and data, what DR6 keeps, and RF in the flags that exceptions push.
 */
#include "guest.h"

#define VECTOR_DE 0
#define VECTOR_DB 1
#define RF 0x10000u
#define DR6_CLEAR 0xffff0ff0u
#define LAPIC_TPR 0xfee00080u

#define WRITE_DR(n, v) __asm__ volatile("mov %0, %%db" #n : : "r"((uint32_t)(v)) : "memory")

extern const char break_here[], break_at_cpuid[], behind_cpuid[];
static volatile unsigned hits;
static volatile uint32_t hit_at, hit_flags, hit_status;

static void on_debug(struct trap_frame *frame)
{
	hits++;
	hit_at = frame->eip;
	hit_flags = frame->eflags;
	__asm__ volatile("mov %%db6, %0" : "=r"(hit_status));
	frame->eflags |= RF; /* past a breakpoint on an instruction */
	frame->eflags &= ~0x100u;
}

static void code_breakpoint(void)
{
	hits = 0;
	WRITE_DR(6, DR6_CLEAR | 2);
	WRITE_DR(0, break_here);
	WRITE_DR(7, 0x402);
	__asm__ volatile("break_here: nop");
	WRITE_DR(7, 0x400);
	check_equal(hits, 1);
	check_equal(hit_at, (uint32_t)break_here);
	check_equal(hit_status & 15, 1); /* an older one's bit is gone */
	/* On an instruction that exits: before it, once, and none again behind it. */
	hits = 0;
	WRITE_DR(6, DR6_CLEAR);
	WRITE_DR(0, break_at_cpuid);
	WRITE_DR(1, behind_cpuid);
	WRITE_DR(7, 0x40a);
	__asm__ volatile("break_at_cpuid: cpuid\n behind_cpuid: nop" : : "a"(0), "c"(0) : "ebx", "edx");
	WRITE_DR(7, 0x400);
	check_equal(hits, 2);
	check_equal(hit_at, (uint32_t)behind_cpuid);
	check_equal(hit_status & 15, 2);
}

static void data_breakpoint(void)
{
	static volatile uint32_t word;

	hits = 0;
	WRITE_DR(6, DR6_CLEAR);
	WRITE_DR(2, &word);
	WRITE_DR(7, 0x0d000420); /* four bytes, writes */
	(void)word;
	check_equal(hits, 0);
	word = 5;
	WRITE_DR(7, 0x400);
	check_equal(hits, 1);
	check_equal(hit_status & 15, 4);
	word = 6;
	check_equal(hits, 1);
}

/* Those that the host might fall over: breakpoints on its own addresses are the guest's business only. */
static void many_exits_with_breakpoints(void)
{
	hits = 0;
	WRITE_DR(0, 0xfffffff0u);
	WRITE_DR(3, 0x1000);
	WRITE_DR(7, 0xfff00482); /* DR0 on execution, DR3 on access */
	for (unsigned i = 0; i < 200; i++)
		cpuid(0, 0);
	WRITE_DR(7, 0x400);
	check_equal(hits, 0);
}

static void bad_msr(void *unused)
{
	rdmsr(0xdead);
}

static void divide_by_register(void *unused)
{
	uint32_t low = 7, high = 0;

	__asm__ volatile("divl %2" : "+a"(low), "+d"(high) : "m"(*(volatile uint32_t *)LAPIC_TPR));
}

static void breakpoint_instruction(void *unused)
{
	__asm__ volatile("int3");
}

static void resume_flag(void)
{
	check(catch_trap(bad_msr, NULL));
	check_equal(caught.vector, VECTOR_GP);
	check_equal(caught.eflags & RF, RF);
	check(catch_trap(divide_by_register, NULL)); /* by the emulator */
	check_equal(caught.vector, VECTOR_DE);
	check_equal(caught.eflags & RF, RF);
	check(catch_trap(breakpoint_instruction, NULL));
	check_equal(caught.vector, VECTOR_BP);
	check_equal(caught.eflags & RF, 0);
	/* A single step is a trap. */
	hits = 0;
	__asm__ volatile("pushfl; orl $0x100, (%%esp); popfl; cpuid" : : "a"(0), "c"(0) : "ebx", "edx");
	check_equal(hits, 1);
	check_equal(hit_flags & RF, 0);
	/* In the shadow of STI. */
	hits = 0;
	pic_init();
	__asm__ volatile("pushfl; orl $0x100, (%esp); popfl; sti; nop; cli");
	check_equal(hits, 1);
	interrupts_off();
}

void guest_main(void)
{
	set_handler(VECTOR_DB, on_debug);
	code_breakpoint();
	data_breakpoint();
	many_exits_with_breakpoints();
	resume_flag();
}
