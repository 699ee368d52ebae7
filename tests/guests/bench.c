/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmark: what an operation costs (rows.h). The same file runs under Quire and under tools/bench/kvm.c.
 *
 * Command line: 4k (rows of exits and of 4 KiB pages), 2m (rows of 2 MiB blocks), log=WAY (the dirty log over 64 MiB;
 * with 2m over blocks) or smp=N (rows of N processors; "own": each has one of the host's). The first module is memory that the host has filled before the guest runs: its frames are there
 * already.
 */
#include "rows.h"
#include "smp.h"

#define BLOCKS 16u
#define WRITE_AREA (32 * MIB) /* untouched by anybody before its row */
#define READ_AREA (48 * MIB)
#define BLOCK_AREA (64 * MIB)
#define LOG_AREA (32 * MIB)
#define LOG_SIZE (64 * MIB)
#define ASK 0x30u
#define ANSWER 0x31u
#define SWITCH 0x32u /* to x2APIC mode */
#define CALM 2000u   /* loops: the other one halts again */

static uint32_t touched;

static void exit_rows(void)
{
	ROW("loop", "", COUNT, 0, 0);
	ROW("cpuid", "xor %%eax, %%eax\n cpuid", COUNT, 0, 0);
	ROW("out_pit", "mov $0, %%al\n out %%al, $0x43", COUNT, 0, 0);
	ROW("in_pic", "in $0x21, %%al", COUNT, 0, 0);
	ROW("ioapic_read", "mov 0xfec00010, %%eax", COUNT, 0, 0);
	ROW("tpr_write", "movl $0x10, 0xfee00080", COUNT, 0, 0);
	ROW("out_user", "out %%al, $0xed", COUNT, 0, 0);
}

static void page_rows(void)
{
	uint32_t module = (modules[0].start + BLOCK - 1) & ~(BLOCK - 1);

	ROW("page_loop", WRITE, COUNT, (uint32_t)&touched, 0);
	ROW("page_write", WRITE, COUNT, WRITE_AREA, 4096);
	ROW("page_read", READ, COUNT, READ_AREA, 4096);
	ROW("page_write_after_read", WRITE, COUNT, READ_AREA, 4096);
	if (module + SAMPLES * PAGE <= modules[0].end)
		ROW("page_there", WRITE, COUNT, module, 4096);
}

static void block_rows(void)
{
	uint32_t module = (modules[0].start + BLOCK - 1) & ~(BLOCK - 1);
	uint32_t blocks = modules[0].end > module ? (modules[0].end - module) / BLOCK : 0;

	ROW("loop", "", COUNT, 0, 0);
	ROW("block_write", WRITE, BLOCKS - 1, BLOCK_AREA, 0x200000);
	if (blocks > BLOCKS)
		blocks = BLOCKS;
	if (blocks > 1)
		ROW("block_there", WRITE, blocks - 1, module, 0x200000);
}

static void write_pages(uint32_t first, uint32_t size)
{
	for (uint32_t at = 0; at < size; at += PAGE)
		*(volatile uint32_t *)(first + at) = at;
}

/* Of blocks: what the first write to a large page costs when the log wants to know its 4 KiB page. */
static void log_rows(const char *row, bool blocks)
{
	ROW("loop", "", COUNT, 0, 0);
	write_pages(LOG_AREA, LOG_SIZE);
	host_turn("on");
	if (blocks) {
		ROW(row, WRITE, BLOCKS - 1, LOG_AREA, 0x200000);
		write_pages(LOG_AREA + LOG_SIZE, 8 * BLOCK); /* small pages, since the log is on */
		host_turn("collapse");
		return;
	}
	ROW(row, WRITE, COUNT, LOG_AREA, 4096);
	write_pages(LOG_AREA, LOG_SIZE);
	host_turn("read");
}

/* ---- several processors ---- */

static volatile uint32_t came_at, switched, written;
static volatile bool spin;

static void on_ask(struct trap_frame *frame)
{
	came_at = (uint32_t)rdtsc();
	lapic_write(LAPIC_EOI, 0);
	send_ipi(cpu_apic_id[0], ANSWER);
}

static void on_answer(struct trap_frame *frame)
{
	lapic_write(LAPIC_EOI, 0);
}

static void on_switch(struct trap_frame *frame)
{
	lapic_write(LAPIC_EOI, 0);
	wrmsr(APIC_BASE_MSR, rdmsr(APIC_BASE_MSR) | APIC_BASE_X2);
	__atomic_fetch_add(&switched, 1, __ATOMIC_SEQ_CST);
}

/* The others write as the first one does, each in an area of its own, and then answer, out of a HLT or out of a loop. */
static void other(unsigned cpu)
{
	write_pages(WRITE_AREA + cpu * 2 * SAMPLES * PAGE, 2 * SAMPLES * PAGE);
	__atomic_fetch_add(&written, 1, __ATOMIC_SEQ_CST);
	for (;;)
		if (spin)
			__asm__ volatile("sti; nop; pause; cli" : : : "memory");
		else
			wait_interrupt();
}

/* From before the send to the first instruction of the other one's handler that can tell. */
static void ipi_row(const char *row)
{
	samples[0] = 0;
	for (unsigned i = 0; i < COUNT; i++) {
		uint32_t start;

		for (unsigned wait = 0; wait < CALM; wait++)
			__asm__ volatile("");
		came_at = 0;
		start = (uint32_t)rdtsc();
		send_ipi(cpu_apic_id[1], ASK);
		while (!came_at)
			wait_interrupt();
		samples[i + 1] = samples[i] + came_at - start;
	}
	report(row, COUNT);
}

/* Both ways to send; own: the other one has a host processor, and needn't halt. */
static void ipi_rows(const char *const names[4], bool own)
{
	for (unsigned mode = 0; mode < 4; mode += 2) {
		ipi_row(names[mode]);
		spin = own;
		send_ipi(0, IPI_OTHERS | ANSWER);
		if (own)
			ipi_row(names[mode + 1]);
		spin = false;
		if (mode || !(cpuid(1, 0).ecx >> 21 & 1))
			return;
		send_ipi(0, IPI_OTHERS | SWITCH);
		on_switch(NULL);
		while (switched != option_number("smp=", 1))
			relax();
		x2apic = true;
	}
}

static void smp_rows(unsigned cpus)
{
	static const char *const writes[] = { "smp_write_1", "smp_write_2", "smp_write_4" };
	static const char *const ipis[][4] = {
		{ "ipi_2", "ipi_spin_2", "ipi_x2_2", "ipi_x2_spin_2" },
		{ "ipi_4", "ipi_spin_4", "ipi_x2_4", "ipi_x2_spin_4" },
	};

	set_handler(ASK, on_ask);
	set_handler(ANSWER, on_answer);
	set_handler(SWITCH, on_switch);
	pic_init();
	ROW("loop", "", COUNT, 0, 0);
	check(start_cpus(cpus, other));
	ROW(writes[cpus / 2], WRITE, COUNT, WRITE_AREA, 4096);
	while (written != cpus - 1)
		relax();
	if (cpus > 1)
		ipi_rows(ipis[cpus / 4], option("own"));
}

void guest_main(void)
{
	memset(samples, 1, sizeof(samples));
	if (memory_end < BLOCK_AREA + BLOCKS * BLOCK) {
		print("needs 96 MiB\n");
		failures++;
		return;
	}
	if (option("log=wp"))
		log_rows(option("2m") ? "log_split" : "log_write_wp", option("2m"));
	else if (option("log=pml"))
		log_rows("log_write_pml", false);
	else if (option("log=ad"))
		log_rows("log_write_ad", false);
	else if (option_number("smp=", 0))
		smp_rows(option_number("smp=", 0));
	else if (option("2m"))
		block_rows();
	else {
		exit_rows();
		page_rows();
	}
	print_rows();
}
