/* SPDX-License-Identifier: Apache-2.0 */
/* The start of a guest's other processors. Intel SDM vol. 3 sections 9.4.4, 11.6. */
#include "smp.h"

#define TRAMPOLINE 0x8000u
/* Of the time stamp counter: seconds on anything that guests run on. */
#define PATIENCE (1ull << 34)

struct table_pointer {
	uint16_t limit;
	uintptr_t base;
} __attribute__((packed));

extern char ap_trampoline[], ap_trampoline_end[], ap_gdt[];
extern struct table_pointer ap_idt;
extern volatile uint32_t ap_count;
extern uint8_t ap_numbers[256];
extern char ap_stacks[];
void ap_entry(unsigned cpu);

volatile uint32_t cpu_apic_id[CPUS_MAX];
volatile bool x2apic;
static void (*ap_main)(unsigned cpu);
static volatile uint32_t arrived = 1;

uint32_t lapic_read(uint32_t reg)
{
	return x2apic ? (uint32_t)rdmsr(0x800 + reg) : read32(LAPIC_PAGE + reg * 16);
}

void lapic_write(uint32_t reg, uint32_t value)
{
	if (x2apic)
		wrmsr(0x800 + reg, value);
	else
		write32(LAPIC_PAGE + reg * 16, value);
}

void send_ipi(uint32_t destination, uint32_t low)
{
	if (x2apic) {
		wrmsr(0x800 + LAPIC_ICR, (uint64_t)destination << 32 | low);
		return;
	}
	write32(LAPIC_PAGE + (LAPIC_ICR + 1) * 16, destination << 24);
	write32(LAPIC_PAGE + LAPIC_ICR * 16, low);
}

/* By the stack, which costs no exit. */
unsigned cpu_number(void)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0), stacks = (uintptr_t)ap_stacks;

	return here - stacks < CPU_STACK * (CPUS_MAX - 1) ? 1 + (unsigned)((here - stacks) / CPU_STACK) : 0;
}

static void arrive(unsigned cpu)
{
	lapic_write(LAPIC_SVR, 0x100 | SPURIOUS_VECTOR);
	cpu_apic_id[cpu] = lapic_read(LAPIC_ID) >> 24;
}

void ap_entry(unsigned cpu)
{
	arrive(cpu);
	ap_numbers[cpu_apic_id[cpu] & 0xff] = (uint8_t)cpu;
	__atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST);
	ap_main(cpu);
	for (;;)
		__asm__ volatile("cli; hlt");
}

void start_again(uint32_t destination, uint32_t shorthand)
{
	send_ipi(destination, shorthand | IPI_INIT);
	send_ipi(destination, shorthand | IPI_STARTUP | TRAMPOLINE >> 12);
}

bool start_cpus(unsigned count, void (*main)(unsigned cpu))
{
	struct table_pointer gdt;
	uint64_t start = rdtsc();

	ap_main = main;
	__asm__ volatile("sgdt %0" : "=m"(gdt));
	__asm__ volatile("sidt %0" : "=m"(ap_idt));
	memcpy(ap_gdt, &gdt, 6);
	memcpy((void *)(uintptr_t)TRAMPOLINE, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
	arrive(0);
	if (count == 1)
		return true;
	send_ipi(0, IPI_OTHERS | IPI_INIT);
	send_ipi(0, IPI_OTHERS | IPI_STARTUP | TRAMPOLINE >> 12);
	send_ipi(0, IPI_OTHERS | IPI_STARTUP | TRAMPOLINE >> 12);
	while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < count && rdtsc() - start < PATIENCE)
		relax();
	if (arrived != count)
		print("%u of %u processors came\n", arrived, count);
	return arrived == count;
}
