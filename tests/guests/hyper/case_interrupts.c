/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts from outside while L2 runs: to L1 by an exit, to L2 by its own table, to a halted L2; and windows. The timer is the PIT.
 * Where Bochs gives no exit to a guest that never turns interrupts on, L2 does that (docs/testing.md).
 */
#include "hyper.h"
#include "svm.h"
#include "vmx.h"

#define TICK 2000u /* of the PIT, 1.7 ms */

static struct l2 *l2;
static unsigned taken;

static void on_timer(struct trap_frame *frame)
{
	taken++;
	pic_eoi(0);
}

static void arm(void)
{
	taken = 0;
	l2_interrupts = l2_flag = 0;
	pit_start(0, TICK);
}

/* Long: the thread of an emulator that brings interrupts in may wait for a processor of its host's. */
static void let_in(void)
{
	for (unsigned i = 0; i < 20000000 && !taken; i++)
		__asm__ volatile("sti; nop; cli" : : : "memory");
}

static void to_l1(void)
{
	hyper.vendor->intercept(l2, ON_INTERRUPT, true);
	for (unsigned i = 0; i < 5; i++) {
		bool own_flag = i % 2 || hyper.bochs;

		arm();
		l2_do(l2, own_flag ? l2_sti_spin : l2_spin, 0, 0);
		expect_exit("an interrupt amid L2", l2, GOT_INTERRUPT);
		check_equal(taken, 0);
		let_in();
		check_equal(taken, 1);
		check_equal((uint32_t)l2_interrupts, 0);
		/* L2 goes on where it was. */
		l2_flag = 1;
		hyper.vendor->set(l2, L2_RFLAGS, 2);
		l2_resume(l2);
		expect_exit("L2 after the interrupt", l2, GOT_HLT);
	}
	/* One that is pending already. */
	arm();
	while (!(out8(0x20, 0x0a), in8(0x20) & 1))
		;
	l2_do(l2, l2_sti_spin, 0, 0);
	expect_exit("an interrupt from before", l2, GOT_INTERRUPT);
	let_in();
	check_equal(taken, 1);
}

/* What L1 injects comes first, and whole; the interrupt that waits ends L2 before its handler's first instruction, or soon after. */
static void injected_first(void)
{
	arm();
	while (!(out8(0x20, 0x0a), in8(0x20) & 1))
		;
	l2_flag = 1;
	hyper.vendor->set(l2, L2_RIP, address_of(l2_spin));
	hyper.vendor->set(l2, L2_RFLAGS, 0x202);
	hyper.vendor->inject(l2, EVENT_INTERRUPT, 0x30, false, 0);
	l2_resume(l2);
	check(!(l2->exit.event >> 31 & 1));
	while (l2->exit.kind == GOT_INTERRUPT && !taken) {
		let_in();
		l2_resume(l2);
	}
	expect_exit("L2 after both", l2, GOT_HLT);
	check_equal(taken, 1);
	check_equal((uint32_t)l2_interrupts, 1);
}

static void acknowledged(void)
{
	if (hyper.vendor->svm)
		return;
	vmx_write(l2, EXIT_CONTROLS, vmx_read(l2, EXIT_CONTROLS) | EXIT_ACKNOWLEDGE);
	arm();
	l2_do(l2, l2_sti_spin, 0, 0);
	say_exit("acknowledged", l2);
	expect_exit("acknowledged", l2, GOT_INTERRUPT);
	check_equal((uint32_t)vmx_read(l2, EXIT_EVENT), 1u << 31 | IRQ_BASE);
	pic_eoi(0);
	let_in();
	check_equal(taken, 0);
	vmx_write(l2, EXIT_CONTROLS, vmx_read(l2, EXIT_CONTROLS) & ~(uint64_t)EXIT_ACKNOWLEDGE);
}

static void halted(void)
{
	hyper.vendor->intercept(l2, ON_HLT, false);
	arm();
	l2_do(l2, l2_sti_hlt, 0, 0);
	say_exit("an interrupt for a halted L2", l2);
	expect_exit("an interrupt for a halted L2", l2, GOT_INTERRUPT);
	/* The processor finds it halted still (SDM vol. 3 section 28.1); bare Bochs doesn't. */
	if (!hyper.vendor->svm)
		vmx_write(l2, ACTIVITY, 0);
	let_in();
	check_equal(taken, 1);
	if (!hyper.vendor->svm) /* still halted: SDM vol. 3 section 28.1; Bochs forgets it */
		vmx_write(l2, ACTIVITY, 0);
	hyper.vendor->intercept(l2, ON_HLT, true);
}

#define MASKING (1ull << 24)
#define OWN_GIF (1ull << 25)
#define GIF_SET (1ull << 9)
#define WAITS (1ull << 8)
#define WAITING (WAITS | 5ull << 16 | 0x33ull << 32)

static bool gif_is(bool set, bool waits)
{
	uint64_t now = ((struct vmcb *)l2->control)->v_intr;

	return check(!!(now & GIF_SET) == set) && check(!!(now & WAITS) == waits);
}

/* SVM: L2's own global interrupt flag holds the virtual interrupt and nothing else (APM vol. 2 section 15.33.2). */
static void gif_of_l2(void)
{
	struct vmcb *b = l2->control;

	l2_interrupts = l2_flag = 0;
	b->v_intr = MASKING | OWN_GIF | GIF_SET | WAITING;
	l2_do(l2, l2_gates, 0, 0);
	check(expect_exit("GIF closed", l2, GOT_CPUID) && !l2_interrupts && gif_is(false, true));
	hyper.vendor->set(l2, L2_RIP, hyper.vendor->get(l2, L2_RIP) + 2);
	l2_resume(l2);
	check(expect_exit("GIF open", l2, GOT_HLT) && l2_interrupts == 1 && gif_is(true, false));
	/* An event that L1 injects comes all the same. */
	l2_interrupts = 0;
	b->v_intr = MASKING | OWN_GIF | WAITING;
	hyper.vendor->set(l2, L2_RIP, address_of(l2_spin));
	hyper.vendor->set(l2, L2_RFLAGS, 0x202);
	hyper.vendor->inject(l2, EVENT_INTERRUPT, 0x30, false, 0);
	l2_resume(l2);
	check(expect_exit("injected with GIF closed", l2, GOT_HLT) && l2_interrupts == 1 && gif_is(false, true));
	/* Interrupts from outside, too. */
	arm();
	l2_do(l2, l2_sti_spin, 0, 0);
	check(expect_exit("an interrupt with GIF closed", l2, GOT_INTERRUPT) && !l2_interrupts && gif_is(false, true));
	let_in();
	check_equal(taken, 1);
	/* L1 may ask for the instructions. */
	b->intercepts[4] |= 3 << 4;
	l2_do(l2, l2_gates, 0, 0);
	check(l2->exit.reason == 0x85 && gif_is(false, true));
	b->intercepts[4] &= ~(3u << 4);
	b->v_intr = MASKING;
}

/* The same with interrupts that are L2's own, one of which waits for STI all the time. */
static void gif_of_l2_and_interrupts(void)
{
	struct vmcb *b = l2->control;

	b->v_intr = OWN_GIF | GIF_SET;
	arm();
	while (!(out8(0x20, 0x0a), in8(0x20) & 1))
		;
	l2_do(l2, l2_gates_closed, 0, 0);
	check(expect_exit("L2's own with GIF closed", l2, GOT_HLT) && l2_interrupts == 1 && gif_is(false, false));
	check_equal(taken, 0);
	b->v_intr = 0;
}

static bool has_own_gif(void)
{
	return hyper.vendor->svm && (cpuid(0x8000000a, 0).edx >> 16 & 1);
}

/* L1 doesn't ask: L2's table takes them, and its handler ends them. */
static void to_l2(void)
{
	hyper.vendor->intercept(l2, ON_INTERRUPT, false);
	if (hyper.vendor->svm)
		((struct vmcb *)l2->control)->v_intr &= ~(1ull << 24);
	arm();
	l2_do(l2, l2_sti_spin, 0, 0);
	expect_exit("L2's own interrupt", l2, GOT_HLT);
	check_equal((uint32_t)l2_interrupts, 1);
	check_equal(taken, 0);
	if (has_own_gif())
		gif_of_l2_and_interrupts();
	hyper.vendor->intercept(l2, ON_INTERRUPT, true);
	if (hyper.vendor->svm)
		((struct vmcb *)l2->control)->v_intr |= 1ull << 24;
}

/* With interrupts off nothing happens; on STI the exit comes, behind the shadow. */
static void window(void)
{
	hyper.vendor->intercept(l2, ON_INTERRUPT, true);
	hyper.vendor->intercept(l2, ON_WINDOW, true);
	l2_do(l2, l2_halt, 0, 0);
	expect_exit("no window", l2, GOT_HLT);
	l2_do(l2, l2_sti_spin, 0, 0);
	say_exit("a window", l2);
	expect_exit("a window", l2, GOT_WINDOW);
	print("window at %d from STI\n", (int32_t)(hyper.vendor->get(l2, L2_RIP) - address_of(l2_sti_spin)));
	check(hyper.qemu || hyper.vendor->get(l2, L2_RIP) != address_of(l2_sti_spin) + 1);
	hyper.vendor->intercept(l2, ON_WINDOW, false);
}

/* SVM: an interrupt in the VMCB, taken by L2 when it can; its flag goes. */
static void virtual_interrupt(void)
{
	struct vmcb *b = l2->control;

	if (!hyper.vendor->svm)
		return;
	l2_interrupts = 0;
	b->v_intr = 1ull << 24 | 1ull << 8 | 5ull << 16 | 0x33ull << 32;
	l2_do(l2, l2_halt, 0, 0);
	check(l2->exit.kind == GOT_HLT && !l2_interrupts && (b->v_intr & 0x100));
	l2_flag = 1;
	b->v_intr |= 6; /* V_TPR above its priority */
	l2_do(l2, l2_sti_spin, 0, 0);
	check(l2->exit.kind == GOT_HLT && !l2_interrupts);
	check(hyper.qemu || (b->v_intr & 0x100)); /* QEMU forgets one that isn't above V_TPR */
	b->v_intr = 1ull << 24 | 1ull << 8 | 5ull << 16 | 0x33ull << 32;
	l2_flag = 0;
	l2_do(l2, l2_sti_spin, 0, 0);
	check(expect_exit("a virtual interrupt", l2, GOT_HLT) && l2_interrupts == 1 && !(b->v_intr & 0x100));
	b->v_intr = 1ull << 24;
}

void case_interrupts(void)
{
	l2 = l2_new(true);
	set_handler(IRQ_BASE, on_timer);
	pic_init();
	pic_unmask(0);
	to_l1();
	injected_first();
	acknowledged();
	halted();
	window();
	virtual_interrupt();
	if (has_own_gif())
		gif_of_l2();
	print("L2 has %s global interrupt flag of its own\n", has_own_gif() ? "a" : "no");
	to_l2();
	pic_init();
}
