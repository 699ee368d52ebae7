/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMX: masks and shadows of CR0 and CR4, filters of page faults, MSR areas, the preemption timer, activity states, the TPR shadow.
 * SDM vol. 3 sections 26.6, 27.4 to 27.7, 28.1.3, 28.4.
 */
#include "vmx.h"

#define KERNEL_GS_BASE 0xc0000102u
#define FS_BASE 0xc0000100u
#define TPR_SHADOW (1u << 21)

struct msr_entry {
	uint32_t index, reserved;
	uint64_t value;
};

static struct l2 *l2;
static struct msr_entry stored[2] __attribute__((aligned(16))), loaded[2] __attribute__((aligned(16))),
	entered[2] __attribute__((aligned(16)));

static void masks(void)
{
	uint64_t cr0 = vmx_read(l2, GUEST_CR0), cr4 = vmx_read(l2, GUEST_CR4);

	vmx_write(l2, CR0_MASK, 8);
	vmx_write(l2, CR0_SHADOW, 8);
	l2_do(l2, l2_read_cr0, 0, 0);
	check(l2->exit.kind == GOT_HLT && l2->regs.rax == (cr0 | 8));
	l2_do(l2, l2_write_cr0, 0, cr0 | 8); /* as the shadow has it */
	expect_exit("MOV to CR0 that agrees with the shadow", l2, GOT_HLT);
	check(vmx_read(l2, GUEST_CR0) == cr0);
	l2_do(l2, l2_write_cr0, 0, cr0);
	say_exit("MOV to CR0 that doesn't", l2);
	expect_exit("MOV to CR0 that doesn't", l2, GOT_CR);
	l2_do(l2, l2_clts, 0, 0);
	say_exit("CLTS", l2);
	expect_exit("CLTS", l2, GOT_CR);
	l2_do(l2, l2_write_cr0, 0, cr0 | 8 | 0x10000); /* WP is L2's own */
	expect_exit("MOV to CR0 of L2's own bits", l2, GOT_HLT);
	check(vmx_read(l2, GUEST_CR0) == (cr0 | 0x10000));
	vmx_write(l2, CR0_MASK, 0);
	vmx_write(l2, GUEST_CR0, cr0);
	vmx_write(l2, CR4_MASK, CR4_VMXE | 4);
	vmx_write(l2, CR4_SHADOW, 4);
	l2_do(l2, l2_read_cr4, 0, 0);
	check(l2->exit.kind == GOT_HLT && l2->regs.rax == ((cr4 & ~CR4_VMXE) | 4));
	l2_do(l2, l2_write_cr4, 0, cr4 & ~CR4_VMXE);
	say_exit("MOV to CR4", l2);
	expect_exit("MOV to CR4", l2, GOT_CR);
	vmx_write(l2, CR4_MASK, CR4_VMXE);
	vmx_write(l2, CR4_SHADOW, 0);
}

/* An exit if the error code's masked bits are the match's, or if they aren't, by the exception bitmap's bit. */
static void page_fault_filter(void)
{
	window_table[1] = 0;
	for (unsigned i = 0; i < 16; i++) {
		bool asked = i & 1, write = i & 2, masked = i & 4, match = i & 8;
		bool equal = (masked && write ? 2u : 0u) == (match ? 2u : 0u);

		vmx_write(l2, EXCEPTIONS, asked ? 1u << VECTOR_PF : 0);
		vmx_write(l2, PF_MASK, masked ? 2 : 0);
		vmx_write(l2, PF_MATCH, match ? 2 : 0);
		l2_do(l2, write ? l2_write : l2_read, WINDOW + PAGE, 0);
		if (!check((l2->exit.kind == GOT_EXCEPTION) == (asked == equal)))
			print("asked %u, write %u, mask %u, match %u\n", asked, write, masked, match);
	}
	vmx_write(l2, EXCEPTIONS, 0);
	vmx_write(l2, PF_MASK, 0);
	vmx_write(l2, PF_MATCH, 0);
}

static void areas(void)
{
	entered[0] = (struct msr_entry){ KERNEL_GS_BASE, 0, 0x1111 };
	stored[0] = (struct msr_entry){ KERNEL_GS_BASE, 0, 0 };
	loaded[0] = (struct msr_entry){ KERNEL_GS_BASE, 0, 0x3333 };
	vmx_write(l2, ENTRY_LOAD, address_of(entered));
	vmx_write(l2, ENTRY_LOAD_COUNT, 1);
	vmx_write(l2, EXIT_STORE, address_of(stored));
	vmx_write(l2, EXIT_STORE_COUNT, 1);
	vmx_write(l2, EXIT_LOAD, address_of(loaded));
	vmx_write(l2, EXIT_LOAD_COUNT, 1);
	l2_do(l2, l2_rdmsr, KERNEL_GS_BASE, 0);
	check(l2->exit.kind == GOT_HLT && l2->regs.rax == 0x1111);
	l2_do(l2, l2_wrmsr, KERNEL_GS_BASE, 0x2222);
	check(l2->exit.kind == GOT_HLT && stored[0].value == 0x2222 && rdmsr(KERNEL_GS_BASE) == 0x3333);
	/* The second entry is refused: the exit names it. */
	entered[1] = (struct msr_entry){ FS_BASE, 0, 0 };
	vmx_write(l2, ENTRY_LOAD_COUNT, 2);
	l2_do(l2, l2_halt, 0, 0);
	say_exit("FS base in the entry's area", l2);
	check(l2->exit.kind == GOT_INVALID && (l2->exit.reason & 0xff) == 34 && l2->exit.info1 == 2);
	check(rdmsr(KERNEL_GS_BASE) == 0x3333); /* the exit's loads are done */
	vmx_write(l2, ENTRY_LOAD_COUNT, 1);
	vmx_write(l2, ENTRY_LOAD, address_of(entered) + 8);
	vmx_write(l2, GUEST_RIP, address_of(l2_halt));
	l2_resume(l2);
	check(l2->exit.failed == VMX_VALID && l2->exit.info1 == 7);
	vmx_write(l2, ENTRY_LOAD_COUNT, 0);
	vmx_write(l2, EXIT_STORE_COUNT, 0);
	vmx_write(l2, EXIT_LOAD_COUNT, 0);
}

static void timer(void)
{
	uint64_t pin = vmx_read(l2, PIN);

	if (!(rdmsr(0x481) >> 38 & 1)) {
		print("no preemption timer\n");
		return;
	}
	vmx_write(l2, PIN, pin | PIN_TIMER);
	vmx_write(l2, TIMER, 1000);
	l2_flag = l2_interrupts = 0;
	l2_do(l2, l2_spin, 0, 0);
	expect_exit("the timer", l2, GOT_TIMER);
	vmx_write(l2, TIMER, 0);
	l2_resume(l2);
	expect_exit("the timer at 0", l2, GOT_TIMER);
	vmx_write(l2, TIMER, 0xffffffff);
	l2_do(l2, l2_halt, 0, 0);
	expect_exit("HLT before the timer", l2, GOT_HLT);
	vmx_write(l2, PIN, pin);
}

/* Entered halted: an injected interrupt wakes; waiting for SIPI isn't tried with nobody to send one. */
static void activity(void)
{
	l2_interrupts = 0;
	l2_flag = 1;
	l2_do(l2, l2_halt, 0, 0);
	vmx_write(l2, ACTIVITY, 1);
	vmx_write(l2, GUEST_RFLAGS, 0x202);
	vmx_write(l2, GUEST_RIP, address_of(l2_spin));
	hyper.vendor->inject(l2, EVENT_INTERRUPT, 0x30, false, 0);
	l2_resume(l2);
	check(expect_exit("awake", l2, GOT_HLT) && l2_interrupts == 1 && vmx_read(l2, ACTIVITY) == 0);
}

/* L2's CR8 is the virtual-APIC page's; below the threshold L1 gets an exit. */
static void task_priority(void)
{
	uint8_t *page = page_take();
	uint64_t processor = vmx_read(l2, PROCESSOR);

	if (!(rdmsr(0x482) >> 53 & 1)) {
		print("no TPR shadow\n");
		return;
	}
	vmx_write(l2, PROCESSOR, processor | TPR_SHADOW);
	vmx_write(l2, VIRTUAL_APIC, address_of(page));
	vmx_write(l2, TPR_THRESHOLD, 0);
	page[0x80] = 0x50;
	l2_do(l2, l2_cr8, 7, 0);
	check(expect_exit("MOV to CR8", l2, GOT_HLT) && l2->regs.rax == 5 && page[0x80] == 0x70);
	vmx_write(l2, TPR_THRESHOLD, 6);
	l2_do(l2, l2_cr8, 3, 0);
	say_exit("CR8 below the threshold", l2);
	check((l2->exit.reason & 0xff) == 43 && page[0x80] == 0x30);
	vmx_write(l2, TPR_THRESHOLD, 0);
	vmx_write(l2, PROCESSOR, processor);
}

/* One access to the page at `offset`: the exit of an APIC access, of this type. */
static void apic_exit(const char *what, const void *piece, uint32_t offset, uint32_t type)
{
	l2_do(l2, piece, WINDOW + 3 * PAGE + offset, 0x12345678);
	print("%s: 0x%llx, 0x%llx\n", what, (unsigned long long)l2->exit.reason, (unsigned long long)l2->exit.info1);
	check((l2->exit.reason & 0xffff) == 44 && l2->exit.info1 == (type << 12 | offset));
}

/* A page of L1's that is no memory for L2: exits, but of the TPR if that is shadowed. */
static void apic_page(void)
{
	uint8_t *apic = page_take(), *virtual = page_take();
	uint64_t processor = vmx_read(l2, PROCESSOR), second = vmx_read(l2, PROCESSOR_2);

	if (!(rdmsr(0x48b) >> 32 & PROC2_APIC)) {
		print("no APIC-access page\n");
		return;
	}
	*slat_entry(l2->root, TARGET + 3 * PAGE, 0) = slat_leaf(address_of(apic), 0, ACCESS_ALL);
	*slat_entry(l2->root, TARGET + 4 * PAGE, 0) = slat_leaf(address_of(virtual), 0, ACCESS_ALL);
	memset(apic, 0xc3, PAGE); /* RET */
	vmx_write(l2, APIC_ACCESS, address_of(apic));
	vmx_write(l2, PROCESSOR_2, second | PROC2_APIC);
	apic_exit("read", l2_read32, 0x20, 0);
	apic_exit("write", l2_write32, 0x300, 1);
	if (!hyper.bochs) /* it stops there */
		apic_exit("fetch", l2_execute, 0x40, 2);
	apic_exit("read of the TPR", l2_read32, 0x80, 0);
	check(apic[0x300] == 0xc3);
	*slat_entry(l2->root, TARGET + 3 * PAGE, 0) = slat_leaf(address_of(apic), 0, ACCESS_READ);
	hyper.vendor->flush(l2, false);
	l2_do(l2, l2_write32, WINDOW + 3 * PAGE, 0);
	expect_exit("a write that L1's tables refuse", l2, GOT_VIOLATION);
	*slat_entry(l2->root, TARGET + 3 * PAGE, 0) = slat_leaf(address_of(apic), 0, ACCESS_ALL);
	vmx_write(l2, VIRTUAL_APIC, address_of(virtual));
	vmx_write(l2, TPR_THRESHOLD, 0);
	vmx_write(l2, PROCESSOR, processor | TPR_SHADOW);
	virtual[0x80] = 0x50;
	l2_do(l2, l2_read32, WINDOW + 3 * PAGE + 0x80, 0);
	check(expect_exit("read of a shadowed TPR", l2, GOT_HLT) && (uint32_t)l2->regs.rax == 0x50);
	l2_do(l2, l2_write32, WINDOW + 3 * PAGE + 0x80, 0x70);
	check(expect_exit("write of a shadowed TPR", l2, GOT_HLT) && virtual[0x80] == 0x70 && apic[0x80] == 0xc3);
	apic_exit("8 bytes of the TPR", l2_read, 0x80, 0);
	apic_exit("another register", l2_write32, 0xb0, 1);
	vmx_write(l2, TPR_THRESHOLD, 4);
	l2_do(l2, l2_write32, WINDOW + 3 * PAGE + 0x80, 0x30);
	check((l2->exit.reason & 0xffff) == 43 && virtual[0x80] == 0x30);
	check(vmx_read(l2, GUEST_RIP) == address_of(l2_write32) + 2);
	vmx_write(l2, GUEST_RIP, address_of(l2_halt));
	l2_resume(l2);
	check((l2->exit.reason & 0xffff) == 43 && vmx_read(l2, GUEST_RIP) == address_of(l2_halt));
	vmx_write(l2, TPR_THRESHOLD, 0);
	vmx_write(l2, PROCESSOR, processor);
	vmx_write(l2, PROCESSOR_2, second);
	l2_do(l2, l2_read32, WINDOW + 3 * PAGE, 0);
	check(expect_exit("memory again", l2, GOT_HLT) && (uint32_t)l2->regs.rax == 0xc3c3c3c3);
}

void case_controls(void)
{
	if (hyper.vendor->svm)
		return;
	l2 = l2_new(true);
	l2_do(l2, l2_halt, 0, 0);
	masks();
	page_fault_filter();
	areas();
	timer();
	activity();
	task_priority();
	apic_page();
}
