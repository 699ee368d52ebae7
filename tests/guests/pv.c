/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux' interface for guests of KVM, used as Linux does, on two processors: the clock that never goes back from one to the other
 * ("rounds="), the wall clock, steal time with its flag and note, kicks out of `cli; hlt`, interrupts by bitmap, and their ends without an exit. With "off" none of it is
 * there. Linux Documentation/virt/kvm/x86/.
 */
#include "hypercall.h"
#include "pv_clock.h"
#include "smp.h"

#define PV_LEAF 0x40000100u
#define WANTED (1u << 3 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 9 | 1u << 11 | 1u << 13)
#define MSR_WALL 0x4b564d00u
#define MSR_ASYNC 0x4b564d02u
#define MSR_STEAL 0x4b564d03u
#define MSR_EOI 0x4b564d04u
#define CALL_KICK 5u
#define CALL_SEND 10u
#define CALL_YIELD 11u
#define UNKNOWN ((uint32_t)-1000)
#define PREEMPTED 1u
#define FLUSH 2u
#define VECTOR 0x31u
#define BEHIND 0x21u /* of a lower class */
#define YEAR_2026 1767225600u
#define PM_TIMER 0x608
#define PM_HZ 3579545u

struct steal {
	uint64_t steal;
	uint32_t version, flags;
	uint8_t preempted, reserved[47];
};

static volatile struct pv_clock clocks[2] __attribute__((aligned(64)));
static volatile struct steal steals[2] __attribute__((aligned(64)));
static volatile uint32_t wall[3] __attribute__((aligned(64)));
static volatile uint32_t turn, done, asleep, woken, got[2], behind[2];
static volatile uint32_t eoi[16 * 2] __attribute__((aligned(64))), ended[2], written[2];
static volatile uint64_t latest;
static unsigned rounds;

static uint64_t clock_now(unsigned cpu)
{
	return pv_clock_now(&clocks[cpu]);
}

static void take_part(unsigned cpu)
{
	wrmsr(MSR_PV_CLOCK, (uintptr_t)&clocks[cpu] | 1);
	wrmsr(MSR_STEAL, (uintptr_t)&steals[cpu] | 1);
	wrmsr(MSR_EOI, (uintptr_t)&eoi[16 * cpu] | 1);
}

/* The time is handed to and fro; whoever gets it looks at its own clock. */
static void hand_over(unsigned cpu)
{
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t now;

		while (turn != cpu)
			relax();
		now = clock_now(cpu);
		check(now >= latest);
		latest = now;
		turn = !cpu;
	}
}

/* HLT with interrupts off: nothing but a kick ends it. */
static void sleep(void)
{
	asleep++;
	__asm__ volatile("cli; hlt" : : : "memory");
	woken++;
}

static void on_vector(struct trap_frame *frame)
{
	unsigned cpu = cpu_number();

	(frame->vector == VECTOR ? got : behind)[cpu]++;
	/* Where the bit is set, clearing it is the end. */
	if (__atomic_fetch_and(&eoi[16 * cpu], ~1u, __ATOMIC_SEQ_CST) & 1) {
		ended[cpu]++;
		return;
	}
	written[cpu]++;
	lapic_write(LAPIC_EOI, 0);
}

static void second(unsigned cpu)
{
	take_part(1);
	hand_over(1);
	sleep();
	sleep();
	while (!done)
		__asm__ volatile("sti; hlt; cli" : : : "memory");
	done = 2;
}

struct access {
	uint32_t msr;
	uint64_t value;
};
static void do_write(void *argument)
{
	const struct access *a = argument;

	wrmsr(a->msr, a->value);
}
static void do_call(void *argument)
{
	(void)hypercall(CALL_YIELD, 0, 0, 0, 0);
}
static bool denied(uint32_t msr, uint64_t value)
{
	struct access a = { msr, value };

	return catch_trap(do_write, &a) && caught.vector == VECTOR_GP;
}

static void wait_for(volatile uint32_t *word, uint32_t value)
{
	while (*word != value)
		relax();
}

/* Both are the machine's; the timer's 24 bits are 4.7 seconds. */
static void clock_agrees(void)
{
	uint64_t from = clock_now(0), by_clock;
	uint32_t ticks = in32(PM_TIMER), by_timer;

	do
		by_timer = (in32(PM_TIMER) - ticks) & 0xffffff;
	while (by_timer < PM_HZ / 50);
	by_clock = clock_now(0) - from;
	/* 20 ms in units of 2^10 ns; the timer's reads take their time too. */
	check((by_clock >> 10) >= 19000000 >> 10);
	check((uint32_t)(by_clock >> 10) < 2 * (by_timer / 3580 * 1000));
}

static void kicks(void)
{
	wait_for(&asleep, 1);
	while (!(steals[1].preempted & PREEMPTED))
		relax();
	check_equal(woken, 0);
	/* A note in the flag's place, as for a flush of its TLB: taken before it goes on. */
	check(__atomic_compare_exchange_n(&steals[1].preempted, &(uint8_t){ PREEMPTED }, PREEMPTED | FLUSH, false,
					  __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	check_equal(hypercall(CALL_KICK, 0, cpu_apic_id[1], 0, 0), 0);
	wait_for(&asleep, 2);
	check_equal(woken, 1);
	check(!(steals[1].preempted & FLUSH));
	check_equal(hypercall(CALL_KICK, 0, 200, 0, 0), 0); /* nobody */
	check_equal(hypercall(CALL_KICK, 0, cpu_apic_id[1], 0, 0), 0);
	wait_for(&woken, 2);
}

/* Ends need no write, none is lost, and what waits behind another comes. */
static void ends(void)
{
	uint32_t before = got[1];

	ended[1] = written[1] = 0;
	for (unsigned i = 1; i <= rounds; i++) {
		check_equal(hypercall(CALL_SEND, 1, 0, cpu_apic_id[1], VECTOR), 1);
		wait_for(&got[1], before + i);
	}
	check_equal(ended[1] + written[1], rounds);
	check(ended[1] > 0); /* a request may come before the handler, and the offer is gone */
	for (unsigned i = 0; i < rounds; i++) {
		before = got[0];
		hypercall(CALL_SEND, 1, 0, cpu_apic_id[0], BEHIND);
		hypercall(CALL_SEND, 1, 0, cpu_apic_id[0], VECTOR);
		__asm__ volatile("sti; nop; nop; pause; cli" : : : "memory");
		check_equal(got[0], before + 1);
		check_equal(behind[0], i + 1);
	}
	check(written[0] >= rounds); /* nothing stands for the one with another behind it */
}

static void interrupts(void)
{
	uint32_t both = 1u << cpu_apic_id[0] | 1u << cpu_apic_id[1];

	check_equal(hypercall(CALL_SEND, both, 0, 0, VECTOR), 2);
	check_equal(hypercall(CALL_SEND, 1, 0, cpu_apic_id[1], VECTOR), 1);
	check_equal(hypercall(CALL_SEND, 1, 0, 200, VECTOR), 0);
	check_equal(hypercall(CALL_SEND, both, 0, 0, 0x500 | VECTOR), (uint32_t)-22);
	interrupts_on();
	while (!got[0] || !got[1])
		relax();
	interrupts_off();
	ends();
	done = 1;
	hypercall(CALL_SEND, 1, 0, cpu_apic_id[1], VECTOR);
	wait_for(&done, 2);
	check(!(eoi[0] & 1) && !(eoi[16] & 1));
}

static void not_there(void)
{
	check_equal(cpuid(PV_LEAF, 0).eax, 0);
	check_equal(cpuid(PV_LEAF + 1, 0).eax, 0);
	check(denied(MSR_PV_CLOCK, (uintptr_t)&clocks[0] | 1));
	check(catch_trap(do_call, NULL) && caught.vector == VECTOR_UD);
}

void guest_main(void)
{
	struct cpuid_result r = cpuid(PV_LEAF, 0);

	rounds = option_number("rounds", 60);
	if (option("off")) {
		not_there();
		return;
	}
	check_equal(r.eax, PV_LEAF + 1);
	check(!memcmp(&r.ebx, "KVMK", 4) && !memcmp(&r.ecx, "VMKV", 4) && !memcmp(&r.edx, "M\0\0\0", 4));
	check_equal(cpuid(PV_LEAF + 1, 0).eax & WANTED, WANTED);
	check_equal(hypercall(0, 0, 0, 0, 0), UNKNOWN);
	check_equal(hypercall(CALL_YIELD, 0, 0, 0, 0), 0);
	check(denied(MSR_PV_CLOCK, 0xe0001) && denied(MSR_PV_CLOCK, 0x100003) && denied(MSR_STEAL, 0x100021));
	check(denied(MSR_ASYNC, 1) && denied(MSR_WALL, 0xfee00000));
	wrmsr(MSR_WALL, (uintptr_t)wall);
	check(!(wall[0] & 1) && wall[1] - YEAR_2026 < 60 && wall[2] < 1000000000);
	take_part(0);
	clock_agrees();
	set_handler(VECTOR, on_vector);
	set_handler(BEHIND, on_vector);
	if (!check(start_cpus(2, second)))
		return;
	hand_over(0);
	while (turn)
		relax();
	kicks();
	interrupts();
	print("clock at %u us, stolen %u and %u us\n", (uint32_t)(clock_now(0) >> 10),
	      (uint32_t)(steals[0].steal >> 10), (uint32_t)(steals[1].steal >> 10));
	/* One of two processors waits, where the host has but one. */
	if (option("one"))
		check(steals[0].steal && steals[1].steal);
}
