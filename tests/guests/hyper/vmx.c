/* SPDX-License-Identifier: Apache-2.0 */
/* The test hypervisor's part for Intel. Manual: SDM vol. 3 chapters 24 to 28 and appendix A. */
#include "smp.h"
#include "vmx.h"

#define FEATURE_CONTROL 0x3au
#define VMX_BASIC 0x480u
#define TRUE_CONTROLS 0x48du /* pin, processor, exit, entry */
#define PROCESSOR_2_MSR 0x48bu
#define EPT_VPID_CAP 0x48cu
#define CR0_FIXED0 0x486u
#define CR4_FIXED0 0x488u

static uint8_t regions[HYPER_CPUS][PAGE] __attribute__((aligned(PAGE))); /* of each processor */
uint8_t vmx_io_map[2 * PAGE] __attribute__((aligned(PAGE))), vmx_msr_map[PAGE] __attribute__((aligned(PAGE)));
uint32_t vmx_revision;
static struct l2 *currents[HYPER_CPUS];

#define current currents[cpu_number()]

static bool start(void)
{
	uint8_t *region = regions[cpu_number()];
	uint64_t lock;

	if (!(cpuid(1, 0).ecx & 32)) {
		print("no VMX\n");
		return false;
	}
	lock = rdmsr(FEATURE_CONTROL);
	if (!(lock & 1))
		wrmsr(FEATURE_CONTROL, lock = 5);
	if (!(lock & 4)) {
		print("VMX is disabled\n");
		return false;
	}
	vmx_revision = (uint32_t)rdmsr(VMX_BASIC) & 0x7fffffff;
	*(uint32_t *)region = vmx_revision;
	WRITE_CR(0, READ_CR(0) | rdmsr(CR0_FIXED0));
	WRITE_CR(4, READ_CR(4) | rdmsr(CR4_FIXED0));
	hyper.execute_only = rdmsr(EPT_VPID_CAP) & 1;
	hyper.accessed_dirty = rdmsr(EPT_VPID_CAP) >> 21 & 1;
	hyper.large_1g = rdmsr(EPT_VPID_CAP) >> 17 & 1;
	return check(vmxon(address_of(region)) == VMX_OK);
}

static void stop(void)
{
	check(vmxoff() == VMX_OK);
	WRITE_CR(4, READ_CR(4) & ~CR4_VMXE);
}

void vmx_forget_current(void)
{
	current = NULL;
}

void vmx_current(struct l2 *l2)
{
	if (current == l2)
		return;
	if (vmptrld(address_of(l2->control)) != VMX_OK) {
		print("FAILED: VMPTRLD\n");
		guest_exit(EXIT_FAILED);
	}
	current = l2;
}

void vmx_write(struct l2 *l2, uint32_t field, uint64_t value)
{
	vmx_current(l2);
	if (vmwrite_try(field, value) != VMX_OK) {
		failures++;
		print("FAILED: VMWRITE of 0x%x\n", field);
	}
}

uint64_t vmx_read(struct l2 *l2, uint32_t field)
{
	uint64_t value = 0;

	vmx_current(l2);
	if (vmread_try(field, &value) != VMX_OK) {
		failures++;
		print("FAILED: VMREAD of 0x%x\n", field);
	}
	return value;
}

/* What is wanted, with what must be 1 and without what must be 0. */
static uint32_t allowed(uint32_t msr, uint32_t wanted)
{
	uint64_t may = rdmsr(msr);

	return (wanted | (uint32_t)may) & (uint32_t)(may >> 32);
}

static void make_controls(struct l2 *l2)
{
	uint32_t true_or_not = rdmsr(VMX_BASIC) >> 55 & 1 ? TRUE_CONTROLS : 0x481, second = 0;

	if (l2->root)
		second = PROC2_EPT | (l2->tag ? PROC2_VPID : 0);
	vmx_write(l2, PIN, allowed(true_or_not, 0));
	vmx_write(l2, PROCESSOR,
		  allowed(true_or_not + 1,
			  PROC_HLT | PROC_IO_MAPS | PROC_MSR_MAPS | PROC_TSC_OFFSET | (second ? PROC_SECOND : 0)));
	vmx_write(l2, EXIT_CONTROLS, allowed(true_or_not + 2, EXIT_HOST64 | EXIT_SAVE_EFER | EXIT_LOAD_EFER));
	vmx_write(l2, ENTRY_CONTROLS, allowed(true_or_not + 3, ENTRY_IA32E | ENTRY_EFER));
	if (second)
		vmx_write(l2, PROCESSOR_2, allowed(PROCESSOR_2_MSR, second));
	vmx_write(l2, VPID, second & PROC2_VPID ? l2->tag : 0);
	vmx_write(l2, IO_MAP_A, address_of(vmx_io_map));
	vmx_write(l2, IO_MAP_B, address_of(vmx_io_map) + PAGE);
	vmx_write(l2, MSR_MAP, address_of(vmx_msr_map));
	vmx_write(l2, LINK_POINTER, ~0ull);
}

static void make_host(struct l2 *l2)
{
	struct table_register gdt, idt;
	static const uint32_t base_fields[] = { HOST_FS_BASE, HOST_GS_BASE, HOST_TR_BASE };

	__asm__ volatile("sgdt %0; sidt %1" : "=m"(gdt), "=m"(idt));
	vmx_write(l2, HOST_CR0, READ_CR(0));
	vmx_write(l2, HOST_CR3, READ_CR(3));
	vmx_write(l2, HOST_CR4, READ_CR(4));
	vmx_write(l2, HOST_EFER, rdmsr(EFER));
	for (unsigned i = 0; i < 7; i++)
		vmx_write(l2, HOST_SELECTOR + 2 * i,
			  i == 1   ? SELECTOR_CODE64
			  : i < 4  ? SELECTOR_DATA32
			  : i == 6 ? 0x30
				   : 0);
	for (unsigned i = 0; i < 3; i++)
		vmx_write(l2, base_fields[i], 0);
	vmx_write(l2, HOST_GDT_BASE, gdt.base);
	vmx_write(l2, HOST_IDT_BASE, idt.base);
	vmx_write(l2, HOST_RIP, address_of(vmx_exit));
}

static void make_guest(struct l2 *l2)
{
	struct table_register gdt;

	for (unsigned i = 0; i < 8; i++) { /* FS, GS and LDTR unusable */
		bool usable = i < 4 || i == 7;

		vmx_write(l2, GUEST_SELECTOR + 2 * i,
			  i == 1   ? SELECTOR_CODE64
			  : i < 4  ? SELECTOR_DATA32
			  : i == 7 ? 0x30
				   : 0);
		vmx_write(l2, GUEST_LIMIT + 2 * i, i == 7 ? 0x67 : 0xffffffff);
		vmx_write(l2, GUEST_RIGHTS + 2 * i, i == 1 ? 0xa09b : i == 7 ? 0x8b : usable ? 0xc093 : 0x10000);
		vmx_write(l2, GUEST_BASE + 2 * i, 0);
	}
	__asm__ volatile("sgdt %0" : "=m"(gdt));
	vmx_write(l2, GUEST_GDT_BASE, gdt.base);
	vmx_write(l2, GUEST_GDT_LIMIT, gdt.limit);
	vmx_write(l2, GUEST_CR0, READ_CR(0));
	vmx_write(l2, GUEST_CR4, READ_CR(4));
	vmx_write(l2, CR4_MASK, CR4_VMXE);
	vmx_write(l2, GUEST_EFER, rdmsr(EFER));
	vmx_write(l2, GUEST_DR7, 0x400);
}

static void make(struct l2 *l2)
{
	memset(l2->control, 0, PAGE);
	*(uint32_t *)l2->control = vmx_revision;
	l2->launched = false;
	if (current == l2)
		current = NULL;
	check(vmclear(address_of(l2->control)) == VMX_OK);
	/* Fields of a new VMCS are whatever they are. */
	for (uint32_t field = PF_MASK; field <= TPR_THRESHOLD; field += 2)
		if (field != EXIT_CONTROLS && field != ENTRY_CONTROLS && field != TPR_THRESHOLD)
			vmx_write(l2, field, 0);
	vmx_write(l2, EXCEPTIONS, 0);
	vmx_write(l2, TSC_OFFSET, 0);
	vmx_write(l2, CR0_MASK, 0);
	vmx_write(l2, CR0_SHADOW, 0);
	vmx_write(l2, CR4_SHADOW, 0);
	vmx_write(l2, INTERRUPTIBILITY, 0);
	vmx_write(l2, ACTIVITY, 0);
	vmx_write(l2, PENDING_DEBUG, 0);
	vmx_write(l2, GUEST_SYSENTER_CS, 0);
	vmx_write(l2, HOST_SYSENTER_CS, 0);
	make_controls(l2);
	make_host(l2);
	make_guest(l2);
	if (l2->root)
		hyper.vendor->set_root(l2, l2->root);
}

static enum exit_kind kind_of(uint64_t reason, uint64_t event)
{
	static const uint8_t kinds[64] = {
		[1] = GOT_INTERRUPT,  [2] = GOT_SHUTDOWN, [7] = GOT_WINDOW, [10] = GOT_CPUID, [12] = GOT_HLT,
		[14] = GOT_INVLPG,    [16] = GOT_RDTSC,   [18] = GOT_CALL,  [28] = GOT_CR,    [29] = GOT_DR,
		[30] = GOT_IO,        [31] = GOT_RDMSR,   [32] = GOT_WRMSR, [40] = GOT_PAUSE, [48] = GOT_VIOLATION,
		[49] = GOT_MISCONFIG, [52] = GOT_TIMER,
	};

	if (reason >> 31)
		return GOT_INVALID;
	if (!reason)
		return (event >> 8 & 7) == EVENT_NMI ? GOT_NMI : GOT_EXCEPTION;
	return reason == 12 ? GOT_HLT : kinds[reason & 63] ? kinds[reason & 63] : GOT_OTHER;
}

static void run(struct l2 *l2)
{
	struct l2_exit *e = &l2->exit;
	uint64_t event;

	vmx_current(l2);
	*e = (struct l2_exit){ .failed = vmx_enter(&l2->regs, l2->launched) };
	if (e->failed) {
		e->kind = GOT_INVALID;
		e->info1 = e->failed == VMX_VALID ? vmx_read(l2, INSTRUCTION_ERROR) : 0;
		return;
	}
	e->reason = vmx_read(l2, REASON);
	if (!(e->reason >> 31))
		l2->launched = true;
	event = vmx_read(l2, EXIT_EVENT);
	e->kind = kind_of(e->reason, event);
	e->info1 = vmx_read(l2, QUALIFICATION);
	e->vector = event & 0xff;
	e->error = event >> 11 & 1 ? vmx_read(l2, EXIT_ERROR) : 0;
	e->event = vmx_read(l2, VECTORING);
	e->event_error = e->event >> 11 & 1 ? vmx_read(l2, VECTORING_ERROR) : 0;
	e->length = (uint32_t)vmx_read(l2, LENGTH);
	if (e->kind != GOT_VIOLATION && e->kind != GOT_MISCONFIG)
		return;
	e->info2 = vmx_read(l2, PHYSICAL);
	if (e->kind == GOT_VIOLATION)
		e->linear = vmx_read(l2, LINEAR);
}

static const uint32_t places[L2_FIELDS] = { GUEST_RIP,          GUEST_RSP,      GUEST_RFLAGS,   GUEST_CR0,
					    GUEST_CR3,          GUEST_CR4,      GUEST_EFER,     GUEST_DR7,
					    GUEST_SELECTOR + 2, GUEST_BASE + 2, GUEST_IDT_BASE, GUEST_IDT_LIMIT };

static uint64_t get(struct l2 *l2, enum l2_field field)
{
	return vmx_read(l2, places[field]);
}

static void set(struct l2 *l2, enum l2_field field, uint64_t value)
{
	vmx_write(l2, places[field], value);
}

static void intercept(struct l2 *l2, enum l2_intercept what, bool on)
{
	static const struct {
		uint32_t field, bits;
	} controls[INTERCEPTS] = {
		[ON_INTERRUPT] = { PIN, PIN_INTERRUPT },       [ON_NMI] = { PIN, PIN_NMI },
		[ON_WINDOW] = { PROCESSOR, PROC_WINDOW },      [ON_RDTSC] = { PROCESSOR, PROC_RDTSC },
		[ON_INVLPG] = { PROCESSOR, PROC_INVLPG },      [ON_CR3_WRITE] = { PROCESSOR, PROC_CR3_LOAD },
		[ON_CR3_READ] = { PROCESSOR, PROC_CR3_STORE }, [ON_DR] = { PROCESSOR, PROC_DR },
		[ON_PAUSE] = { PROCESSOR, PROC_PAUSE },        [ON_HLT] = { PROCESSOR, PROC_HLT },
	};
	uint64_t now = vmx_read(l2, controls[what].field);

	vmx_write(l2, controls[what].field, on ? now | controls[what].bits : now & ~(uint64_t)controls[what].bits);
}

static void exceptions(struct l2 *l2, uint32_t mask)
{
	vmx_write(l2, EXCEPTIONS, mask);
}

static void inject(struct l2 *l2, uint32_t type, uint32_t vector, bool has_error, uint32_t error)
{
	vmx_write(l2, ENTRY_EVENT, vector | type << 8 | (uint32_t)has_error << 11 | 1u << 31);
	vmx_write(l2, ENTRY_ERROR, error);
}

static void tsc_offset(struct l2 *l2, uint64_t offset)
{
	vmx_write(l2, TSC_OFFSET, offset);
}

static bool tsc_half(struct l2 *l2, bool half)
{
	if (!(rdmsr(PROCESSOR_2_MSR) >> 32 & PROC2_TSC_SCALING))
		return false;
	vmx_write(l2, PROCESSOR, vmx_read(l2, PROCESSOR) | PROC_SECOND);
	vmx_write(l2, PROCESSOR_2,
		  (vmx_read(l2, PROCESSOR_2) & ~(uint64_t)PROC2_TSC_SCALING) | (half ? PROC2_TSC_SCALING : 0));
	vmx_write(l2, TSC_MULTIPLIER, half ? 1ull << 47 : 0);
	return true;
}

static void flush(struct l2 *l2, bool all)
{
	check(invept(all ? 2 : 1, vmx_read(l2, EPT_POINTER)) == VMX_OK);
}

static void set_root(struct l2 *l2, uint64_t root)
{
	l2->root = root;
	vmx_write(l2, EPT_POINTER, root | 3 << 3 | 6 | (hyper.accessed_dirty ? 64 : 0));
}

const struct vendor vmx_vendor = { "VMX",     false,      start,  stop,       make,     run,   get,     set,
				   intercept, exceptions, inject, tsc_offset, tsc_half, flush, set_root };
