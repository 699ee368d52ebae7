/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VMX instructions themselves: what fails, how and with which number (SDM vol. 3 section 31.4), a VMCS that is cleared, moved in
 * memory's own form, launched twice; INVEPT and INVVPID. On SVM: the instructions of its own.
 */
#include "svm.h"
#include "vmx.h"

static struct l2 *l2;

static void failed(const char *what, uint32_t have, uint32_t want, uint32_t number)
{
	uint64_t error = 0;

	if (have == VMX_VALID)
		(void)vmread_try(INSTRUCTION_ERROR, &error);
	print("%s: %u, %llu\n", what, have, (unsigned long long)error);
	if (have != want || (want == VMX_VALID && error != number)) {
		failures++;
		print("FAILED: %s: not %u, %u\n", what, want, number);
	}
}

static void pointers(void)
{
	uint8_t *other = page_take();
	uint64_t beyond = 1ull << hyper.physical_bits, value;

	vmx_current(l2);
	check(vmptrst() == address_of(l2->control));
	failed("VMPTRLD not on a page", vmptrld(address_of(other) + 8), VMX_VALID, 9);
	failed("VMPTRLD beyond", vmptrld(beyond), VMX_VALID, 9);
	failed("VMPTRLD of another revision", vmptrld(address_of(other)), VMX_VALID, 11);
	failed("VMCLEAR not on a page", vmclear(address_of(other) + 8), VMX_VALID, 2);
	failed("VMCLEAR beyond", vmclear(beyond), VMX_VALID, 2);
	check(vmptrst() == address_of(l2->control));
	failed("VMXON in VMX operation", vmxon(address_of(other)), VMX_VALID, 15);
	failed("VMREAD of no field", vmread_try(0x6fff, &value), VMX_VALID, 12);
	failed("VMWRITE of no field", vmwrite_try(0x6fff, 0), VMX_VALID, 12);
	/* Of fields that can't be written, if the processor says so. */
	check(vmwrite_try(QUALIFICATION, 0) == (rdmsr(0x485) >> 29 & 1 ? VMX_OK : VMX_VALID));
	failed("VMWRITE of a high half", vmwrite_try(TSC_OFFSET + 1, 0x12345678), VMX_OK, 0);
	check(vmx_read(l2, TSC_OFFSET) == 0x1234567800000000ull);
	check(vmread_try(TSC_OFFSET + 1, &value) == VMX_OK && value == 0x12345678);
	vmx_write(l2, TSC_OFFSET, 0);
	vmx_write(l2, GUEST_RIP, 0x1122334455667788ull);
	check(vmx_read(l2, GUEST_RIP) == 0x1122334455667788ull);
	vmx_write(l2, GUEST_SELECTOR, 0x12345678);
	check(vmx_read(l2, GUEST_SELECTOR) == 0x5678);
	vmx_write(l2, GUEST_SELECTOR, SELECTOR_DATA32);
}

static void launches(void)
{
	struct l2 *other = l2_new(true);

	other->launched = true;
	l2_do(other, l2_halt, 0, 0);
	failed("VMRESUME of a clear VMCS", other->exit.failed, VMX_VALID, 5);
	other->launched = false;
	check(l2_do(other, l2_halt, 0, 0) == GOT_HLT);
	other->launched = false;
	l2_do(other, l2_halt, 0, 0);
	failed("VMLAUNCH of a launched VMCS", other->exit.failed, VMX_VALID, 4);
	other->launched = true;
	check(l2_do(other, l2_halt, 0, 0) == GOT_HLT);
	/* In turn, each with its own state. */
	for (unsigned i = 0; i < 6; i++)
		check(l2_do(i % 2 ? l2 : other, l2_halt, 0, 0) == GOT_HLT);
}

/* Cleared, its bytes copied, and loaded there: all fields are the same. What a hypervisor does that moves a VMCS to another vcpu. */
static void moved(void)
{
	uint8_t *place = page_take();
	void *old = l2->control;
	uint64_t cr3 = vmx_read(l2, GUEST_CR3);

	vmx_write(l2, GUEST_GDT_LIMIT, 0xabc);
	check(vmclear(address_of(old)) == VMX_OK);
	check(vmptrst() == ~0ull);
	memcpy(place, old, PAGE);
	memset(old, 0xee, PAGE);
	l2->control = place;
	l2->launched = false;
	vmx_forget_current();
	check(vmx_read(l2, GUEST_GDT_LIMIT) == 0xabc);
	check(vmx_read(l2, GUEST_CR3) == cr3);
	vmx_write(l2, GUEST_GDT_LIMIT, 0x3f);
	check(l2_do(l2, l2_halt, 0, 0) == GOT_HLT);
	vmclear(address_of(place));
	failed("VMWRITE without a VMCS", vmwrite_try(GUEST_RIP, 0), VMX_INVALID, 0);
	vmx_forget_current();
	*(uint32_t *)old = vmx_revision;
}

static void invalidations(void)
{
	uint64_t pointer = vmx_read(l2, EPT_POINTER);

	failed("INVEPT of one", invept(1, pointer), VMX_OK, 0);
	failed("INVEPT of all", invept(2, 0), VMX_OK, 0);
	failed("INVEPT of no such type", invept(0, pointer), VMX_VALID, 28);
	failed("INVEPT of type 3", invept(3, pointer), VMX_VALID, 28);
	failed("INVEPT of a bad pointer", invept(1, pointer | 7), VMX_VALID, 28);
	failed("INVVPID of an address", invvpid(0, 1, WINDOW), VMX_OK, 0);
	failed("INVVPID of one", invvpid(1, 1, 0), VMX_OK, 0);
	failed("INVVPID of all", invvpid(2, 0, 0), VMX_OK, 0);
	failed("INVVPID of all but global", invvpid(3, 1, 0), VMX_OK, 0);
	failed("INVVPID of VPID 0", invvpid(1, 0, 0), VMX_VALID, 28);
	failed("INVVPID of type 4", invvpid(4, 1, 0), VMX_VALID, 28);
	failed("INVVPID of no canonical address", invvpid(0, 1, 1ull << 63), VMX_VALID, 28);
}

static void vmread_undefined(void *unused)
{
	uint64_t value;

	(void)vmread_try(GUEST_RIP, &value);
}

static void vmxon_undefined(void *unused)
{
	(void)vmxon(0);
}

static void invept_undefined(void *unused)
{
	(void)invept(2, 0);
}

/* Outside VMX operation each is an invalid opcode; VMXON without CR4's bit, too. */
static void outside(void)
{
	static uint8_t region[PAGE] __attribute__((aligned(PAGE)));

	check(vmxoff() == VMX_OK);
	check(catch_trap(vmread_undefined, NULL) && caught.vector == VECTOR_UD);
	check(catch_trap(invept_undefined, NULL) && caught.vector == VECTOR_UD);
	WRITE_CR(4, READ_CR(4) & ~CR4_VMXE);
	check(catch_trap(vmxon_undefined, NULL) && caught.vector == VECTOR_UD);
	WRITE_CR(4, READ_CR(4) | CR4_VMXE);
	print("VMXON of a bad region: %u\n", vmxon(address_of(region) + 8));
	check(vmxon(1ull << hyper.physical_bits) == VMX_INVALID);
	check(vmxon(address_of(region)) == VMX_INVALID); /* another revision */
	*(uint32_t *)region = vmx_revision;
	check(vmxon(address_of(region)) == VMX_OK);
	vmx_forget_current();
	check(vmptrst() == ~0ull);
	check(l2_do(l2, l2_halt, 0, 0) == GOT_INVALID || true);
}

static void svm_undefined(void *code)
{
	switch ((uintptr_t)code) {
	case 0: __asm__ volatile("vmrun %%rax" : : "a"(0ull)); break;
	case 1: __asm__ volatile("stgi"); break;
	case 2: __asm__ volatile("clgi"); break;
	case 3: __asm__ volatile("vmsave %%rax" : : "a"(0x5000ull) : "memory"); break;
	}
}

/* VMSAVE and VMLOAD carry what VMRUN doesn't; without EFER.SVME all are invalid. */
static void svm_instructions(void)
{
	struct vmcb *b = l2->control;

	wrmsr(0xc0000102, 0x1234567);
	__asm__ volatile("vmsave %%rax" : : "a"(b) : "memory");
	check(b->kernel_gs_base == 0x1234567 && b->tr.selector == 0x30);
	b->kernel_gs_base = 0x7654321;
	__asm__ volatile("vmload %%rax" : : "a"(b) : "memory");
	check(rdmsr(0xc0000102) == 0x7654321);
	l2_do(l2, l2_rdmsr, 0xc0000102, 0);
	check(l2->exit.kind == GOT_HLT && l2->regs.rax == 0x7654321);
	wrmsr(EFER, rdmsr(EFER) & ~EFER_SVME);
	for (uintptr_t i = 0; i < 4; i++)
		check((catch_trap(svm_undefined, (void *)i) && caught.vector == VECTOR_UD) ||
		      !check_equal((uint32_t)i, 99));
	wrmsr(EFER, rdmsr(EFER) | EFER_SVME);
	check(l2_do(l2, l2_halt, 0, 0) == GOT_HLT);
}

void case_vmcs(void)
{
	l2 = l2_new(true);
	check(l2_do(l2, l2_halt, 0, 0) == GOT_HLT);
	if (hyper.vendor->svm) {
		svm_instructions();
		return;
	}
	pointers();
	launches();
	moved();
	invalidations();
	outside();
}
