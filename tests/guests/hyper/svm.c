/* SPDX-License-Identifier: Apache-2.0 */
/* The test hypervisor's part for AMD. Manual: APM vol. 2 chapter 15 and appendix B (layout), C (exit codes). */
#include "hyper.h"
#include "smp.h"
#include "svm.h"

#define VM_CR 0xc0010114u
#define VM_HSAVE_PA 0xc0010117u

static uint8_t host_save[HYPER_CPUS][PAGE] __attribute__((aligned(PAGE))); /* of each processor */
uint8_t svm_io_map[3 * PAGE] __attribute__((aligned(PAGE))), svm_msr_map[2 * PAGE] __attribute__((aligned(PAGE)));

static void read_vm_cr(void *value)
{
	*(uint64_t *)value = rdmsr(VM_CR);
}

static bool start(void)
{
	uint64_t vm_cr = 0;

	if (cpuid(0x80000000, 0).eax < 0x8000000a || !(cpuid(0x80000001, 0).ecx & 4)) {
		print("no SVM\n");
		return false;
	}
	(void)catch_trap(read_vm_cr, &vm_cr); /* Bochs has no such MSR */
	if (vm_cr & 0x10) {
		print("SVM is disabled\n");
		return false;
	}
	wrmsr(EFER, rdmsr(EFER) | EFER_SVME);
	wrmsr(VM_HSAVE_PA, address_of(host_save[cpu_number()]));
	return true;
}

static void stop(void)
{
	wrmsr(EFER, rdmsr(EFER) & ~EFER_SVME);
}

static void make(struct l2 *l2)
{
	struct vmcb *b = l2->control;
	struct vmcb_segment flat = { SELECTOR_DATA32, 0xc93, 0xffffffff, 0 };
	struct table_register gdt;

	memset(b, 0, PAGE);
	b->intercepts[3] = 1u << 18 | 1u << 24 | 1u << 27 | 1u << 28 | 1u << 31; /* CPUID, HLT, the maps, shutdown */
	b->intercepts[4] = 3;                                                    /* VMRUN, VMMCALL */
	b->io_map = address_of(svm_io_map);
	b->msr_map = address_of(svm_msr_map);
	b->asid = l2->tag;
	b->nested_paging = l2->root != 0;
	b->nested_root = l2->root;
	b->v_intr = 1u << 24;
	b->es = b->ss = b->ds = flat;
	b->cs = (struct vmcb_segment){ SELECTOR_CODE64, 0xa9b, 0xffffffff, 0 };
	__asm__ volatile("sgdt %0" : "=m"(gdt));
	b->gdtr.limit = gdt.limit;
	b->gdtr.base = gdt.base;
	b->efer = rdmsr(EFER);
	b->cr0 = READ_CR(0) | 1;
	b->cr4 = READ_CR(4);
	b->dr6 = 0xffff0ff0;
	b->dr7 = 0x400;
	b->g_pat = 0x0007040600070406ull;
}

static enum exit_kind kind_of(const struct vmcb *b)
{
	static const struct {
		uint16_t code, kind;
	} table[] = {
		{ 0x60, GOT_INTERRUPT }, { 0x61, GOT_NMI },      { 0x64, GOT_WINDOW }, { 0x6e, GOT_RDTSC },
		{ 0x72, GOT_CPUID },     { 0x77, GOT_PAUSE },    { 0x78, GOT_HLT },    { 0x79, GOT_INVLPG },
		{ 0x7b, GOT_IO },        { 0x7f, GOT_SHUTDOWN }, { 0x81, GOT_CALL },   { 0x400, GOT_VIOLATION },
	};

	if ((uint32_t)b->exit_code == 0xffffffff)
		return GOT_INVALID;
	if (b->exit_code < 0x20)
		return GOT_CR;
	if (b->exit_code < 0x40)
		return GOT_DR;
	if (b->exit_code < 0x60)
		return GOT_EXCEPTION;
	if (b->exit_code == 0x7c)
		return b->info1 ? GOT_WRMSR : GOT_RDMSR;
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].code == b->exit_code)
			return table[i].kind;
	return GOT_OTHER;
}

static void run(struct l2 *l2)
{
	struct vmcb *b = l2->control;

	b->rax = l2->regs.rax;
	svm_enter(&l2->regs, address_of(b));
	b->tlb_control = 0;
	l2->regs.rax = b->rax;
	l2->exit = (struct l2_exit){ .kind = kind_of(b), .reason = b->exit_code, .info1 = b->info1, .info2 = b->info2 };
	if (l2->exit.kind == GOT_EXCEPTION) {
		l2->exit.vector = (uint32_t)b->exit_code - 0x40;
		l2->exit.error = b->info1;
	}
	l2->exit.event = b->exit_event & 0xffffffff;
	l2->exit.event_error = b->exit_event >> 32;
}

static void *place(struct l2 *l2, enum l2_field field)
{
	struct vmcb *b = l2->control;
	void *const places[L2_FIELDS] = { &b->rip,  &b->rsp, &b->rflags, &b->cr0,     &b->cr3,       &b->cr4,
					  &b->efer, &b->dr7, NULL,       &b->cs.base, &b->idtr.base, NULL };

	return places[field];
}

static uint64_t get(struct l2 *l2, enum l2_field field)
{
	struct vmcb *b = l2->control;

	if (field == L2_CS_SELECTOR)
		return b->cs.selector;
	if (field == L2_IDT_LIMIT)
		return b->idtr.limit;
	return *(uint64_t *)place(l2, field);
}

static void set(struct l2 *l2, enum l2_field field, uint64_t value)
{
	struct vmcb *b = l2->control;

	if (field == L2_CS_SELECTOR)
		b->cs.selector = (uint16_t)value;
	else if (field == L2_IDT_LIMIT)
		b->idtr.limit = (uint32_t)value;
	else
		*(uint64_t *)place(l2, field) = value;
}

static void set_bits(uint32_t *word, uint32_t bits, bool on)
{
	*word = on ? *word | bits : *word & ~bits;
}

static void intercept(struct l2 *l2, enum l2_intercept what, bool on)
{
	struct vmcb *b = l2->control;
	static const struct {
		uint8_t word;
		uint32_t bits;
	} places[INTERCEPTS] = {
		[ON_INTERRUPT] = { 3, 1 },      [ON_NMI] = { 3, 2 },           [ON_WINDOW] = { 3, 16 },
		[ON_RDTSC] = { 3, 1u << 14 },   [ON_INVLPG] = { 3, 1u << 25 }, [ON_CR3_WRITE] = { 0, 1u << 19 },
		[ON_CR3_READ] = { 0, 1u << 3 }, [ON_DR] = { 1, 0xffffffff },   [ON_PAUSE] = { 3, 1u << 23 },
		[ON_HLT] = { 3, 1u << 24 },
	};

	set_bits(&b->intercepts[places[what].word], places[what].bits, on);
	if (what != ON_WINDOW)
		return;
	/* A virtual interrupt of the lowest priority asks for the window. */
	b->v_intr &= ~(1ull << 8 | 0xfull << 16 | 1ull << 20);
	b->v_intr |= on ? 1ull << 8 | 0xfull << 16 | 1ull << 20 : 0;
}

static void exceptions(struct l2 *l2, uint32_t mask)
{
	((struct vmcb *)l2->control)->intercepts[2] = mask;
}

static void inject(struct l2 *l2, uint32_t type, uint32_t vector, bool has_error, uint32_t error)
{
	((struct vmcb *)l2->control)->inject =
		vector | type << 8 | (uint32_t)has_error << 11 | 1u << 31 | (uint64_t)error << 32;
}

static bool tsc_half(struct l2 *l2, bool half)
{
	return false;
}

static void tsc_offset(struct l2 *l2, uint64_t offset)
{
	((struct vmcb *)l2->control)->tsc_offset = offset;
}

static void flush(struct l2 *l2, bool all)
{
	((struct vmcb *)l2->control)->tlb_control = 1; /* all; flush by ASID isn't everywhere */
}

static void set_root(struct l2 *l2, uint64_t root)
{
	l2->root = root;
	((struct vmcb *)l2->control)->nested_root = root;
}

const struct vendor svm_vendor = { "SVM",     true,       start,  stop,       make,     run,   get,     set,
				   intercept, exceptions, inject, tsc_offset, tsc_half, flush, set_root };
