/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exceptions of L2: its own, L1's when it asks; events that L1 injects; and all of them broken off by a fault in L1's tables and
 * injected anew. Manual: SDM vol. 3 sections 27.6, 28.2.4; APM vol. 2 sections 15.12, 15.20.
 */
#include "hyper.h"

#define VALID (1u << 31)

static struct l2 *l2;
static uint64_t idt_before;

static void l2_saw(const char *what, uint32_t vector, uint64_t error)
{
	if (l2->exit.kind == GOT_HLT && l2_seen[0] == vector + 1u && l2_seen[1] == error)
		return;
	failures++;
	print("FAILED: not L2's own vector %u error 0x%llx: ", vector, (unsigned long long)error);
	say_exit(what, l2);
}

static void own_exceptions(void)
{
	window_table[1] = 0;
	l2_do(l2, l2_invalid, 0, 0);
	l2_saw("UD2", VECTOR_UD, 0);
	check(l2_seen[3] == address_of(l2_invalid));
	l2_do(l2, l2_int3, 0, 0);
	l2_saw("INT3", VECTOR_BP, 0);
	l2_do(l2, l2_read, WINDOW + PAGE, 0);
	l2_saw("a page that L2 hasn't mapped", VECTOR_PF, 0);
	check(l2_seen[2] == WINDOW + PAGE);
	l2_do(l2, l2_read, 1ull << 63, 0);
	l2_saw("no canonical address", VECTOR_GP, 0);
	l2_interrupts = 0;
	l2_do(l2, l2_int, 0, 0);
	check(l2->exit.kind == GOT_HLT && l2_interrupts == 1);
	l2_do(l2, l2_wrmsr, EFER, 1ull << 60);
	if (!hyper.qemu) /* which takes it */
		l2_saw("WRMSR of a reserved bit in EFER", VECTOR_GP, 0);
	hyper.vendor->set(l2, L2_EFER, rdmsr(EFER));
}

static void asked_for(void)
{
	hyper.vendor->exceptions(l2, 1u << VECTOR_UD | 1u << VECTOR_PF | 1u << VECTOR_GP |
					     (hyper.qemu ? 0 : 1u << VECTOR_BP));
	l2_do(l2, l2_invalid, 0, 0);
	say_exit("UD2", l2);
	check(expect_exit("UD2", l2, GOT_EXCEPTION) && l2->exit.vector == VECTOR_UD);
	check(hyper.vendor->get(l2, L2_RIP) == address_of(l2_invalid));
	l2_do(l2, l2_read, WINDOW + PAGE, 0);
	say_exit("a page that L2 hasn't mapped", l2);
	check(expect_exit("#PF", l2, GOT_EXCEPTION) && l2->exit.vector == VECTOR_PF && l2->exit.error == 0);
	check((hyper.vendor->svm ? l2->exit.info2 : l2->exit.info1) == WINDOW + PAGE);
	l2_do(l2, l2_write, WINDOW + PAGE, 0);
	check(l2->exit.error == 2);
	l2_do(l2, l2_read, 1ull << 63, 0);
	say_exit("no canonical address", l2);
	check(expect_exit("#GP", l2, GOT_EXCEPTION) && l2->exit.vector == VECTOR_GP);
	if (!hyper.qemu) {
		l2_do(l2, l2_int3, 0, 0);
		say_exit("INT3", l2);
		check(expect_exit("#BP", l2, GOT_EXCEPTION) && l2->exit.vector == VECTOR_BP);
	}
	hyper.vendor->exceptions(l2, 0);
}

/* What L1 injects reaches L2's handler; the same again for an interrupt, that comes back. */
static void injected(void)
{
	static const struct {
		uint32_t type, vector;
		bool has_error;
		uint32_t error;
	} rows[] = {
		{ EVENT_EXCEPTION, 0, false, 0 },
		{ EVENT_EXCEPTION, VECTOR_UD, false, 0 },
		{ EVENT_EXCEPTION, VECTOR_GP, true, 0x1230 },
		{ EVENT_EXCEPTION, VECTOR_PF, true, 6 },
		{ EVENT_EXCEPTION, 8, true, 0 },
		{ EVENT_EXCEPTION, 11, true, 0x50 },
		{ EVENT_EXCEPTION, 17, true, 0 },
		{ EVENT_NMI, 2, false, 0 },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		hyper.vendor->inject(l2, rows[i].type, rows[i].vector, rows[i].has_error, rows[i].error);
		l2_do(l2, l2_halt, 0, 0);
		l2_saw("an injected event", rows[i].vector, rows[i].error);
		l2_do(l2, l2_halt, 0, 0);
		check(l2->exit.kind == GOT_HLT && !l2_seen[0]); /* once only */
	}
}

static void injected_interrupt(void)
{
	l2_interrupts = 0;
	l2_do(l2, l2_halt, 0, 0);
	hyper.vendor->set(l2, L2_RFLAGS, 0x202);
	hyper.vendor->set(l2, L2_RIP, address_of(l2_halt));
	hyper.vendor->inject(l2, EVENT_INTERRUPT, 0x30, false, 0);
	l2_resume(l2);
	check(l2->exit.kind == GOT_HLT && l2_interrupts == 1);
	check(hyper.vendor->get(l2, L2_RFLAGS) & 0x200);
}

/*
 * L2's IDT behind an absent entry of L1's: the exit says which event was under way. Mapped and injected anew, it arrives.
 */
static void broken_off(void)
{
	uint8_t *table = page_take();
	uint64_t *entry = slat_entry(l2->root, TARGET + 2 * PAGE, 0);
	uint64_t gate = TARGET + 2 * PAGE;

	memcpy(table, (void *)(uintptr_t)idt_before, 1024);
	hyper.vendor->set(l2, L2_IDT_BASE, WINDOW + 2 * PAGE);
	for (unsigned turn = 0; turn < 3; turn++) {
		static const char *const names[] = { "an injected #GP", "UD2", "an injected interrupt" };
		uint32_t type;

		*entry = 0;
		hyper.vendor->flush(l2, false);
		l2_interrupts = 0;
		if (turn == 0)
			hyper.vendor->inject(l2, EVENT_EXCEPTION, VECTOR_GP, true, 0x44);
		l2_do(l2, turn == 1 ? l2_invalid : l2_halt, 0, 0);
		if (turn == 2) {
			hyper.vendor->set(l2, L2_RFLAGS, 0x202);
			hyper.vendor->set(l2, L2_RIP, address_of(l2_halt));
			hyper.vendor->inject(l2, EVENT_INTERRUPT, 0x31, false, 0);
			l2_resume(l2);
		}
		say_exit(names[turn], l2);
		if (!expect_exit(names[turn], l2, GOT_VIOLATION))
			continue;
		check((l2->exit.info2 & ~0xfffull) == gate);
		check(l2->exit.event & VALID);
		type = (uint32_t)l2->exit.event >> 8 & 7;
		*entry = slat_leaf(address_of(table), 0, ACCESS_ALL);
		hyper.vendor->inject(l2, type, l2->exit.event & 0xff, l2->exit.event >> 11 & 1,
				     (uint32_t)l2->exit.event_error);
		l2_resume(l2);
		if (turn == 2)
			check(l2->exit.kind == GOT_HLT && l2_interrupts == 1);
		else
			l2_saw(names[turn], turn ? VECTOR_UD : VECTOR_GP, turn ? 0 : 0x44);
	}
	hyper.vendor->set(l2, L2_IDT_BASE, idt_before);
}

/* A second exception in the delivery of a first: L1 that asks for it is told of both. */
static void double_ones(void)
{
	hyper.vendor->set(l2, L2_IDT_LIMIT, 16 * 3 - 1);
	hyper.vendor->exceptions(l2, 1u << VECTOR_GP);
	l2_do(l2, l2_invalid, 0, 0);
	say_exit("#GP amid #UD", l2);
	check(l2->exit.kind == GOT_EXCEPTION && l2->exit.vector == VECTOR_GP);
	check((l2->exit.event & (VALID | 0x7ff)) == (VALID | EVENT_EXCEPTION << 8 | VECTOR_UD));
	hyper.vendor->exceptions(l2, 1u << 8);
	l2_do(l2, l2_read, 1ull << 63, 0);
	say_exit("#DF after #GP amid #GP", l2);
	hyper.vendor->exceptions(l2, 0);
	if (!triple_faults())
		return;
	l2_do(l2, l2_invalid, 0, 0);
	expect_exit("a third one", l2, GOT_SHUTDOWN);
}

void case_events(void)
{
	for (unsigned paged = 0; paged < 2; paged++) {
		uint64_t cr3, idt, limit;

		print("%s nested paging\n", paged ? "with" : "without");
		l2 = l2_new(paged);
		cr3 = hyper.vendor->get(l2, L2_CR3);
		idt = idt_before = hyper.vendor->get(l2, L2_IDT_BASE);
		limit = hyper.vendor->get(l2, L2_IDT_LIMIT);
		own_exceptions();
		asked_for();
		hyper.vendor->set(l2, L2_CR3, cr3);
		hyper.vendor->set(l2, L2_IDT_BASE, idt);
		hyper.vendor->set(l2, L2_IDT_LIMIT, limit);
		injected();
		injected_interrupt();
		if (paged)
			broken_off();
		double_ones();
	}
}
