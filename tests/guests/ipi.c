/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts between processors ("cpus="): all of them ask and answer into `sti; hlt` at random ("rounds=" times each), every kind of
 * destination in every mode of the APICs, NMIs, and a level-triggered line whose EOI comes from any of them. A message that is
 * lost leaves somebody asleep for ever.
 */
#include "smp.h"

#define ASK 0x30u    /* and the number of who asks: up to 8 */
#define ANSWER 0x2fu /* of the class below: behind all that was asked */
#define PROBE 0x3eu
#define LINE 0x3du
#define BEHIND 0x2eu
#define ASKERS_MAX 8u
#define ID_SHIFT 24u

#define IOAPIC 0xfec00000u
#define UART_PIN 4u
#define UART 0x3f8u
#define REMOTE_IRR (1u << 14)
#define LEVEL (1u << 15)
#define MASKED (1u << 16)

static unsigned cpus, rounds;
static volatile uint32_t asked[ASKERS_MAX][ASKERS_MAX]; /* by whom, whom */
static volatile uint32_t probed[ASKERS_MAX], nmis[ASKERS_MAX], behind[ASKERS_MAX], lines[ASKERS_MAX];
static volatile uint32_t phase, done;
static unsigned times; /* that all have asked */

static void end_of_interrupt(void)
{
	lapic_write(LAPIC_EOI, 0);
}

static void let_in(void)
{
	__asm__ volatile("sti; nop; nop; pause; cli" : : : "memory");
}

static void on_ask(struct trap_frame *frame)
{
	unsigned from = frame->vector - ASK;

	asked[from][cpu_number()]++;
	end_of_interrupt();
	send_ipi(cpu_apic_id[from], ANSWER);
}

static void on_answer(struct trap_frame *frame)
{
	end_of_interrupt();
}

static void on_probe(struct trap_frame *frame)
{
	__atomic_fetch_add(&probed[cpu_number()], 1, __ATOMIC_SEQ_CST);
	end_of_interrupt();
}

static void on_behind(struct trap_frame *frame)
{
	end_of_interrupt();
	__atomic_fetch_add(&behind[cpu_number()], 1, __ATOMIC_SEQ_CST);
}

static void on_nmi(struct trap_frame *frame)
{
	__atomic_fetch_add(&nmis[cpu_number()], 1, __ATOMIC_SEQ_CST);
}

/* ---- asking and answering ---- */

static void ask_at_random(unsigned self)
{
	uint32_t dice = 12345 + 7919 * self;

	for (unsigned round = 0; round < rounds; round++) {
		unsigned whom;
		uint32_t before;

		dice = dice * 1664525 + 1013904223;
		whom = (dice >> 16) % cpus;
		before = asked[self][whom];
		send_ipi(cpu_apic_id[whom], ASK + self);
		while (asked[self][whom] == before)
			wait_interrupt();
		if (asked[self][whom] != before + 1)
			check_equal(asked[self][whom], before + 1);
	}
}

/* Each goes on answering until all have asked. */
static void all_ask(unsigned self)
{
	ask_at_random(self);
	__atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
	if (self)
		return;
	while (done != cpus) {
		let_in();
	}
	times++;
	for (unsigned from = 0; from < cpus; from++) {
		uint32_t sum = 0;

		for (unsigned to = 0; to < cpus; to++)
			sum += asked[from][to];
		check_equal(sum, times * rounds);
	}
}

/* ---- destinations: the first processor sends, the others answer whatever comes ---- */

/* What was sent before has been taken when this has come. */
static void settle(void)
{
	for (unsigned cpu = 0; cpu < cpus; cpu++) {
		uint32_t before = behind[cpu];

		send_ipi(cpu_apic_id[cpu], BEHIND);
		while (behind[cpu] == before) {
			let_in();
		}
	}
}

/* to: bit n for processor n. */
static void reaches(const char *what, uint32_t destination, uint32_t low, uint32_t to)
{
	volatile uint32_t *count = (low & IPI_NMI) == IPI_NMI ? nmis : probed;
	uint32_t got = 0;

	for (unsigned cpu = 0; cpu < cpus; cpu++)
		count[cpu] = 0;
	send_ipi(destination, low);
	settle();
	for (unsigned cpu = 0; cpu < cpus; cpu++)
		got |= count[cpu] == 1 ? 1u << cpu : count[cpu] << 16;
	if (got != to) {
		print("%s: ", what);
		check_equal(got, to);
	}
}

/* Lowest priority goes to one of those named. */
static void lowest_reaches(uint32_t destination, uint32_t flags, uint32_t to)
{
	uint32_t sum = 0, each = 8 * cpus;

	for (unsigned cpu = 0; cpu < cpus; cpu++)
		probed[cpu] = 0;
	for (unsigned i = 0; i < each; i++) {
		send_ipi(destination, flags | IPI_LOWEST | PROBE);
		settle();
	}
	for (unsigned cpu = 0; cpu < cpus; cpu++) {
		check(!probed[cpu] || (to >> cpu & 1));
		sum += probed[cpu];
	}
	check_equal(sum, each);
}

static uint32_t logical(unsigned cpu)
{
	uint32_t id = cpu_apic_id[cpu];

	return x2apic ? id >> 4 << 16 | 1u << (id & 15) : 1u << (id & 7);
}

static void broadcasts(uint32_t all)
{
	reaches("self", 0, IPI_SELF | PROBE, 1);
	reaches("all", 0, IPI_ALL | PROBE, all);
	reaches("others", 0, IPI_OTHERS | PROBE, all & ~1u);
	reaches("broadcast", x2apic ? 0xffffffffu : 0xff, PROBE, all);
	reaches("others' NMI", 0, IPI_OTHERS | IPI_NMI, all & ~1u);
	reaches("nobody", 200, PROBE, 0);
}

static void each_destination(void)
{
	uint32_t all = (1u << cpus) - 1, named = 0;

	broadcasts(all);
	for (unsigned cpu = 0; cpu < cpus; cpu++) {
		named |= logical(cpu);
		reaches("physical", cpu_apic_id[cpu], PROBE, 1u << cpu);
		reaches("logical", logical(cpu), IPI_LOGICAL | PROBE, 1u << cpu);
		reaches("NMI", cpu_apic_id[cpu], IPI_NMI, 1u << cpu);
	}
	reaches("several", named & ~logical(0), IPI_LOGICAL | PROBE, all & ~1u);
	lowest_reaches(named, IPI_LOGICAL, all);
}

/* Four processors to a cluster. */
static uint32_t clustered(unsigned cpu)
{
	return (cpu / 4) << 4 | 1u << cpu % 4;
}

static void each_cluster(void)
{
	uint32_t first = cpus < 4 ? (1u << cpus) - 1 : 0xf;

	for (unsigned cpu = 0; cpu < cpus; cpu++)
		reaches("cluster", clustered(cpu), IPI_LOGICAL | PROBE, 1u << cpu);
	reaches("a whole cluster", 0x0f, IPI_LOGICAL | PROBE, first);
}

/* ---- a level-triggered line: the UART's, which is asserted for as long as its room to transmit isn't looked at ---- */

static void ioapic_write(unsigned index, uint32_t value)
{
	write32(IOAPIC, index);
	write32(IOAPIC + 0x10, value);
}

static uint32_t ioapic_read(unsigned index)
{
	write32(IOAPIC, index);
	return read32(IOAPIC + 0x10);
}

static void on_line(struct trap_frame *frame)
{
	__atomic_fetch_add(&lines[cpu_number()], 1, __ATOMIC_SEQ_CST);
	(void)in8(UART + 2);
	end_of_interrupt();
}

static void level_lines(void)
{
	unsigned entry = 0x10 + 2 * UART_PIN;

	out8(UART + 4, 0x0b);
	for (unsigned i = 0; i < 4 * cpus; i++) {
		unsigned cpu = i % cpus;
		uint32_t before = lines[cpu];

		ioapic_write(entry + 1, cpu_apic_id[cpu] << ID_SHIFT);
		ioapic_write(entry, LEVEL | LINE);
		out8(UART + 1, 2);
		while (lines[cpu] == before || (ioapic_read(entry) & REMOTE_IRR)) {
			let_in();
		}
		out8(UART + 1, 0);
		settle();
		check_equal(lines[cpu], before + 1);
	}
	ioapic_write(entry, MASKED);
}

/* ---- all of it ---- */

static void set_logical(bool cluster, unsigned cpu)
{
	lapic_write(LAPIC_DFR, cluster ? 0x0fffffffu : 0xffffffffu);
	lapic_write(LAPIC_LDR, (cluster ? clustered(cpu) : logical(cpu)) << ID_SHIFT);
}

/* What each processor does before a phase; the first one waits for the others. */
static void enter_phase(unsigned cpu, unsigned which)
{
	if (which == 1 || which == 2)
		set_logical(which == 2, cpu);
	if (which == 3)
		wrmsr(APIC_BASE_MSR, rdmsr(APIC_BASE_MSR) | APIC_BASE_X2);
	__atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
}

static void other(unsigned cpu)
{
	unsigned seen = 0;

	all_ask(cpu);
	for (;;) {
		if (phase == seen) {
			wait_interrupt();
			continue;
		}
		seen = phase;
		if (seen == 4)
			all_ask(cpu);
		else
			enter_phase(cpu, seen);
	}
}

static void next_phase(unsigned which)
{
	done = 0;
	phase = which;
	send_ipi(0, IPI_OTHERS | BEHIND);
	if (which == 4)
		return;
	enter_phase(0, which);
	while (done != cpus)
		relax();
}

void guest_main(void)
{
	bool has_x2apic = cpuid(1, 0).ecx >> 21 & 1;

	cpus = option_number("cpus=", 4);
	rounds = option_number("rounds=", 1000);
	for (unsigned i = 0; i < ASKERS_MAX; i++)
		set_handler(ASK + i, on_ask);
	set_handler(ANSWER, on_answer);
	set_handler(PROBE, on_probe);
	set_handler(BEHIND, on_behind);
	set_handler(LINE, on_line);
	set_handler(2, on_nmi);
	pic_init();
	if (!check(start_cpus(cpus, other)))
		return;
	all_ask(0);
	print("ipi: %u processors asked %u times each\n", cpus, rounds);
	next_phase(1);
	each_destination();
	level_lines();
	next_phase(2);
	each_cluster();
	print("ipi: flat, cluster and lines\n");
	if (!has_x2apic)
		return;
	next_phase(3);
	x2apic = true;
	each_destination();
	level_lines();
	next_phase(4);
	all_ask(0);
	print("ipi: x2APIC\n");
}
