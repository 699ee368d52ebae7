/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hardware task switches: by JMP, CALL, IRET and task gates, for INT n, faults with an error code and interrupts, between 32-bit and
 * 16-bit TSSs, with address spaces of their own and into virtual-8086 mode; busy bits, links, NT, CR0.TS and what is saved; a fault
 * while the new task's segments are loaded.
 */
#include "guest.h"

#define VECTOR_DB 1
#define VECTOR_TS 10
#define VECTOR_INT 0x31u
#define GATE_TASK 0x8500u
#define NT 0x4000u
#define VM 0x20000u
#define STACK 4096u
#define WINDOW (12 * MIB) /* maps elsewhere in the called task */
#define ELSEWHERE (8 * MIB)

enum task { MAIN, CALLED, FAULTED, FIXER, INTERRUPTED, SMALL, VIRTUAL, TASKS };
#define FIRST_TSS 6u /* in the GDT */
#define SELECTOR(task) ((FIRST_TSS + (task)) * 8)

struct tss {
	uint32_t link, stacks[6], cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds, fs, gs, ldt;
	uint16_t trap, iomap;
};

static struct tss tss[TASKS];
static uint16_t small_tss[22]; /* SMALL's */
static uint8_t stacks[TASKS][STACK] __attribute__((aligned(16)));
static uint64_t gdt[FIRST_TSS + TASKS];
static uint32_t directory[2][1024] __attribute__((aligned(4096)));
static volatile unsigned visits, ticks;
static volatile uint32_t seen_error, seen_window;

struct pointer {
	uint16_t limit;
	uint32_t base;
} __attribute__((packed));

static void describe(enum task task, const void *base, uint32_t limit, uint8_t type)
{
	uint32_t b = (uint32_t)base;

	gdt[FIRST_TSS + task] =
		limit | (uint64_t)(b & 0xffffff) << 16 | (uint64_t)type << 40 | (uint64_t)(b >> 24) << 56;
}

static bool busy(enum task task)
{
	return gdt[FIRST_TSS + task] >> 41 & 1;
}

static void make(enum task task, void (*entry)(void), unsigned space)
{
	tss[task] = (struct tss){ .cr3 = (uint32_t)directory[space],
				  .eip = (uint32_t)entry,
				  .eflags = 2,
				  .eax = 0x11111111,
				  .esp = (uint32_t)stacks[task] + STACK,
				  .es = SELECTOR_DATA32,
				  .cs = SELECTOR_CODE32,
				  .ss = SELECTOR_DATA32,
				  .ds = SELECTOR_DATA32,
				  .fs = SELECTOR_DATA32,
				  .iomap = sizeof(struct tss) };
	describe(task, &tss[task], sizeof(struct tss) - 1, 0x89);
}

static void gate(unsigned vector, enum task task)
{
	struct pointer idt;

	__asm__ volatile("sidt %0" : "=m"(idt));
	write32(idt.base + vector * 8, SELECTOR(task) << 16);
	write32(idt.base + vector * 8 + 4, GATE_TASK);
}

static void jump_to(enum task task)
{
	struct {
		uint32_t offset;
		uint16_t selector;
	} __attribute__((packed)) target = { 0, (uint16_t)SELECTOR(task) };

	__asm__ volatile("ljmp *%0" : : "m"(target) : "memory");
}

static void call_task(enum task task)
{
	struct {
		uint32_t offset;
		uint16_t selector;
	} __attribute__((packed)) target = { 0, (uint16_t)SELECTOR(task) };

	__asm__ volatile("lcall *%0" : : "m"(target) : "memory");
}

static uint32_t flags(void)
{
	uint32_t value;

	__asm__ volatile("pushfl; popl %0" : "=r"(value));
	return value;
}

/* ---- the tasks: each goes on behind its IRET or JMP when it is entered again ---- */

void called_body(void), fixer_body(void), interrupted_body(void), called(void), fixer(void), interrupted(void),
	faulted(void);
__asm__(".text\n"
	"called: mov %eax, %ebx\n 1: call called_body\n iret\n jmp 1b\n"
	"fixer: call fixer_body\n add $4, %esp\n iret\n jmp fixer\n"
	"interrupted: call interrupted_body\n iret\n jmp interrupted\n"
	"faulted: incl visits\n iret\n");

void called_body(void)
{
	visits++;
	check_equal(flags() & NT, NT);
	check_equal(READ_CR(0) & 8, 8);
	check_equal(tss[CALLED].link, SELECTOR(MAIN));
	check(busy(MAIN) && busy(CALLED));
	check_equal(READ_CR(3), (uint32_t)directory[1]);
	seen_window = read32(WINDOW);
}

/* A fault led here: its error code lies on top of the stack, where the call has left it. */
void fixer_body(void)
{
	uint32_t *stack = (uint32_t *)((uint32_t)stacks[FIXER] + STACK - 4);

	visits++;
	seen_error = *stack;
	check_equal(flags() & NT, NT);
	if (tss[FIXER].link == SELECTOR(MAIN))
		tss[MAIN].eip += 2; /* over the UD2 or the access */
	else
		tss[FAULTED].ds = SELECTOR_DATA32;
}

void interrupted_body(void)
{
	ticks++;
	pic_eoi(0);
}

static void into_and_back(void)
{
	make(CALLED, called, 1);
	write32(WINDOW, 1);
	write32(ELSEWHERE, 2);
	visits = 0;
	for (unsigned i = 1; i < 4; i++) {
		__asm__ volatile("clts");
		call_task(CALLED);
		check_equal(visits, i);
		check_equal(flags() & NT, 0);
		check(busy(MAIN) && !busy(CALLED));
		check_equal(READ_CR(0) & 8, 8);
	}
	check_equal(seen_window, 2);
	check_equal(read32(WINDOW), 1);
	check_equal(tss[CALLED].ebx, 0x11111111);
	check_equal(tss[CALLED].eflags & NT, 0);
	gate(VECTOR_INT, CALLED);
	__asm__ volatile("int $0x31");
	check_equal(visits, 4);
}

static void leave_for_main(void)
{
	for (;;) {
		visits++;
		check_equal(flags() & NT, 0);
		check(!busy(MAIN) && busy(CALLED));
		jump_to(MAIN);
	}
}

static void by_jump(void)
{
	uint32_t ebx = 0x12345678;

	make(CALLED, leave_for_main, 0);
	visits = 0;
	for (unsigned i = 1; i < 4; i++) {
		struct {
			uint32_t offset;
			uint16_t selector;
		} __attribute__((packed)) target = { 0, SELECTOR(CALLED) };

		__asm__ volatile("ljmp *%1" : "+b"(ebx) : "m"(target) : "memory");
		check_equal(visits, i);
		check_equal(ebx, 0x12345678);
		check(busy(MAIN) && !busy(CALLED));
	}
}

static void faults(void)
{
	make(FIXER, fixer, 0);
	gate(VECTOR_GP, FIXER);
	gate(VECTOR_UD, FIXER);
	gate(VECTOR_TS, FIXER);
	visits = 0;
	/* MOV of a selector beyond the table: two bytes, #GP with it as the error code. */
	__asm__ volatile("mov %%eax, %%es" : : "a"(0x7ff8));
	check_equal(visits, 1);
	check_equal(seen_error, 0x7ff8);
	check(busy(MAIN) && !busy(FIXER));
	/* A bad DS: the fault is the new task's, and all of that has been loaded. */
	make(FAULTED, faulted, 0);
	tss[FAULTED].ds = 0x7ff0;
	call_task(FAULTED);
	check_equal(visits, 3);
	check_equal(seen_error & ~1u, 0x7ff0);
	check_equal(tss[FIXER].link, SELECTOR(FAULTED));
	check_equal(tss[FAULTED].link, SELECTOR(MAIN));
	check(busy(MAIN) && !busy(FAULTED) && !busy(FIXER));
}

static void interrupts(void)
{
	make(INTERRUPTED, interrupted, 0);
	gate(IRQ_BASE, INTERRUPTED);
	pit_start(2, 1193);
	pic_unmask(0);
	while (ticks < 5)
		wait_interrupt();
	out8(0x21, 0xff);
	check(busy(MAIN) && !busy(INTERRUPTED));
}

/* A 16-bit TSS: the CALL leaves in 32-bit code at an address below 64 KiB. */
static void small(void)
{
	static const uint8_t code[] = { 0xff, 0x05, 0, 0, 0, 0, 0xcf }; /* incl visits; iret */

	memcpy((void *)0x7000, code, sizeof(code));
	write32(0x7002, (uint32_t)&visits);
	small_tss[7] = 0x7000;
	small_tss[8] = 2;
	small_tss[13] = 0x6ff0;
	small_tss[17] = small_tss[19] = small_tss[20] = SELECTOR_DATA32;
	small_tss[18] = SELECTOR_CODE32;
	describe(SMALL, small_tss, sizeof(small_tss) - 1, 0x81);
	visits = 0;
	call_task(SMALL);
	check_equal(visits, 1);
	check(!busy(SMALL));
	check_equal(small_tss[0], SELECTOR(MAIN));
	check_equal(small_tss[7], 0x7007); /* behind its IRET */
}

/* Virtual-8086 mode, and out of it by a task gate's fault: the HLT that it may not execute. */
static void back_from_virtual(void)
{
	visits++;
	check_equal(tss[VIRTUAL].eflags & VM, VM);
	check_equal(tss[VIRTUAL].eip, 1);
	check_equal(tss[VIRTUAL].ds, 0x1234);
	gdt[FIRST_TSS + MAIN] &= ~(2ull << 40); /* no JMP leads to a busy task */
	jump_to(MAIN);
}

static void virtual_mode(void)
{
	write32(0x7000, 0xf490); /* nop; hlt */
	make(VIRTUAL, NULL, 0);
	tss[VIRTUAL].cs = 0x700;
	tss[VIRTUAL].ss = 0x600;
	tss[VIRTUAL].esp = 0x100;
	tss[VIRTUAL].ds = 0x1234;
	tss[VIRTUAL].eflags = VM | 2;
	make(FIXER, back_from_virtual, 0);
	gate(VECTOR_GP, FIXER);
	visits = 0;
	call_task(VIRTUAL);
	check_equal(visits, 1);
}

static volatile unsigned traps;
static volatile uint32_t trap_status;

static void on_debug(struct trap_frame *frame)
{
	traps++;
	__asm__ volatile("mov %%db6, %0" : "=r"(trap_status));
}

/* The T bit of the TSS: a #DB before the new task's first instruction. QEMU, which switches for AMD, doesn't name it. */
static void debug_bit(void)
{
	set_handler(VECTOR_DB, on_debug);
	make(CALLED, called, 1);
	tss[CALLED].trap = 1;
	call_task(CALLED);
	if (cpuid(0, 0).ebx == 0x756e6547) /* Intel's */
		check_equal(trap_status & 0x8000, 0x8000);
	print("%s the T bit of a TSS\n", traps ? "trapped by" : "nobody knows");
}

void guest_main(void)
{
	struct pointer table;
	uint64_t *old;

	__asm__ volatile("sgdt %0" : "=m"(table));
	old = (uint64_t *)table.base;
	for (unsigned i = 0; i < FIRST_TSS; i++)
		gdt[i] = old[i];
	table = (struct pointer){ sizeof(gdt) - 1, (uint32_t)gdt };
	__asm__ volatile("lgdt %0" : : "m"(table));
	for (unsigned i = 0; i < 1024; i++)
		directory[0][i] = directory[1][i] = i << 22 | 0x87;
	directory[1][WINDOW >> 22] = ELSEWHERE | 0x87;
	WRITE_CR(4, READ_CR(4) | 0x10);
	WRITE_CR(3, directory[0]);
	WRITE_CR(0, READ_CR(0) | 0x80000000u);
	make(MAIN, NULL, 0);
	__asm__ volatile("ltr %w0" : : "r"(SELECTOR(MAIN)));
	/* QEMU can't begin a switch anew that has met an absent page of the hypervisor's. */
	memset(stacks, 0, sizeof(stacks));
	memset((void *)0x6000, 0, 0x2000);
	pic_init();
	into_and_back();
	by_jump();
	faults();
	interrupts();
	small();
	/* Bochs has no way out of an SVM guest in virtual-8086 mode. */
	if (!option("protected"))
		virtual_mode();
	debug_bit();
}
