/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single steps over instructions that the processor hands to the hypervisor, one by one: each must end in a trap of its own, and
 * DR6 must name it.
 */
#include "guest.h"

#define VECTOR_DB 1
#define DR6_SINGLE_STEP 0x4000u
#define MOST_STEPS 40u
#define TF "0x100"

extern const char before_cpuid[], before_in[], before_rdmsr[], before_cr[], before_mmio[], before_out[], before_rep[],
	before_dr[], behind_all[];
void step_through(void);

/* The first trap comes behind the instruction that follows POPF. */
__asm__(".text\n"
	"step_through:\n"
	"	pushal\n"
	"	mov $text, %esi\n"
	"	pushfl\n"
	"	orl $" TF ", (%esp)\n"
	"	popfl\n"
	"	nop\n"
	"before_cpuid:\n"
	"	cpuid\n"
	"before_in:\n"
	"	inb $0x71, %al\n"
	"before_rdmsr:\n"
	"	mov $0x1b, %ecx\n"
	"	rdmsr\n"
	"before_cr:\n"
	"	mov %cr4, %eax\n"
	"	mov %eax, %cr4\n"
	"before_mmio:\n"
	"	mov 0xfee00030, %eax\n"
	"before_out:\n"
	"	outb %al, $0x80\n"
	"before_rep:\n"
	"	mov $3, %ecx\n"
	"	mov $0xe9, %edx\n"
	"	rep outsb\n"
	"before_dr:\n"
	"	mov %dr7, %eax\n"
	"behind_all:\n"
	"	pushfl\n"
	"	andl $~" TF ", (%esp)\n"
	"	popfl\n"
	"	popal\n"
	"	ret\n"
	"text: .ascii \"ab\\n\"\n");

static uint32_t place[MOST_STEPS], status[MOST_STEPS];
static unsigned steps;

static void note_step(struct trap_frame *frame)
{
	uint32_t dr6;

	__asm__ volatile("mov %%db6, %0" : "=r"(dr6));
	__asm__ volatile("mov %0, %%db6" : : "r"(0xffff0ff0u));
	if (steps < MOST_STEPS) {
		place[steps] = frame->eip;
		status[steps++] = dr6;
	}
}

static unsigned steps_at(const char *where)
{
	unsigned count = 0;

	for (unsigned i = 0; i < steps; i++)
		count += place[i] == (uint32_t)where;
	return count;
}

static void check_steps(void)
{
	set_handler(VECTOR_DB, note_step);
	step_through();
	check_equal(steps_at(before_cpuid), 1);
	check_equal(steps_at(before_in), 1);
	check_equal(steps_at(before_rdmsr), 1);
	check_equal(steps_at(before_cr), 1);
	check_equal(steps_at(before_mmio), 1);
	check_equal(steps_at(before_out), 1);
	check_equal(steps_at(before_rep), 1);
	check_equal(steps_at(before_rep + 10), 3); /* once before it begins, and twice in its middle */
	check_equal(steps_at(before_dr), 1);
	check_equal(steps_at(behind_all), 1);
	check_equal(steps, 18);
	for (unsigned i = 0; i < steps; i++)
		check_equal(status[i] & DR6_SINGLE_STEP, DR6_SINGLE_STEP);
	print("%u steps\n", steps);
}

static unsigned detections;
static uint32_t detected_dr6, detected_dr7;

static void note_detection(struct trap_frame *frame)
{
	if (detections++ > 2)
		guest_exit(EXIT_FAILED); /* it traps within itself */
	__asm__ volatile("mov %%db6, %0" : "=r"(detected_dr6));
	__asm__ volatile("mov %%db7, %0" : "=r"(detected_dr7));
}

/* DR7.GD: the next access to a debug register traps before it happens, and GD is clear for the handler. */
static void check_general_detect(void)
{
	uint32_t dr0 = 0x12345678;

	set_handler(VECTOR_DB, note_detection);
	__asm__ volatile("mov %0, %%db7" : : "r"(0x2400u));
	__asm__ volatile("mov %0, %%db0" : : "r"(dr0));
	check_equal(detections, 1);
	check_equal(detected_dr6 & 0x2000, 0x2000);
	check_equal(detected_dr7, 0x400);
	__asm__ volatile("mov %%db0, %0" : "=r"(dr0));
	check_equal(dr0, 0x12345678);
}

void guest_main(void)
{
	check_steps();
	check_general_detect();
}
