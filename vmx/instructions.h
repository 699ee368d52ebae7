/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VMX instructions (Intel SDM vol. 3 chapter 31) and the debug registers as C functions. Kernel only.
 *
 * VMREAD and VMWRITE work on the calling CPU's current VMCS. One that fails names a field that the processor, or a hypervisor
 * below, doesn't have though a control that we use asks for it: the vcpu gets no further entry, and its machine an error that names
 * the field (vmx_field_failed). The others tell how they fared.
 * By the name of its guard a test keeps this out and puts a processor of its own in place.
 */
#ifndef VMX_INSTRUCTIONS_H
#define VMX_INSTRUCTIONS_H

#include "arch/x86_64/address.h"
#include "vmx/vmcs.h"

void vmx_field_failed(enum vmcs_field field, const char *what);

static inline uint64_t vmcs_read(enum vmcs_field field)
{
	uint64_t value;

	__asm__ goto("vmread %1, %0; jbe %l[failed]" : "=r"(value) : "r"((uint64_t)field) : "cc" : failed);
	return value;
failed:
	vmx_field_failed(field, "VMREAD");
	return 0;
}

static inline void vmcs_write(enum vmcs_field field, uint64_t value)
{
	__asm__ goto("vmwrite %0, %1; jbe %l[failed]" : : "r"(value), "r"((uint64_t)field) : "cc" : failed);
	return;
failed:
	vmx_field_failed(field, "VMWRITE");
}

/*
 * For the path from exit to entry: fields that every processor with VMX has, of a VMCS that has just been entered,
 * so that these can't fail.
 */
static inline uint64_t vmcs_read_hot(enum vmcs_field field)
{
	uint64_t value;

	__asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((uint64_t)field) : "cc");
	return value;
}

static inline void vmcs_write_hot(enum vmcs_field field, uint64_t value)
{
	__asm__ volatile("vmwrite %0, %1" : : "r"(value), "r"((uint64_t)field) : "cc");
}

/* These take the physical address in memory; false: CF or ZF was set. */
static inline bool vmxon(hpa_t region)
{
	bool done;

	__asm__ volatile("vmxon %1; seta %0" : "=qm"(done) : "m"(region.v) : "cc", "memory");
	return done;
}

static inline void vmxoff(void)
{
	__asm__ volatile("vmxoff" : : : "cc", "memory");
}

static inline bool vmclear(hpa_t vmcs)
{
	bool done;

	__asm__ volatile("vmclear %1; seta %0" : "=qm"(done) : "m"(vmcs.v) : "cc", "memory");
	return done;
}

static inline bool vmptrld(hpa_t vmcs)
{
	bool done;

	__asm__ volatile("vmptrld %1; seta %0" : "=qm"(done) : "m"(vmcs.v) : "cc", "memory");
	return done;
}

/* Types of both: 1 single context, 2 all contexts. */
#define INVALIDATE_SINGLE 1u
#define INVALIDATE_ALL 2u

static inline bool invept(uint64_t type, uint64_t ept_pointer)
{
	const uint64_t descriptor[2] = { ept_pointer, 0 };
	bool done;

	__asm__ volatile("invept %1, %2; seta %0" : "=qm"(done) : "m"(descriptor), "r"(type) : "cc", "memory");
	return done;
}

static inline bool invvpid(uint64_t type, uint16_t vpid)
{
	const uint64_t descriptor[2] = { vpid, 0 };
	bool done;

	__asm__ volatile("invvpid %1, %2; seta %0" : "=qm"(done) : "m"(descriptor), "r"(type) : "cc", "memory");
	return done;
}

/* DR0 to DR3 and DR6 into and out of dr[], numbered as the processor does; the host itself never uses them. */
static inline void debug_registers_read(uint64_t dr[8])
{
	__asm__ volatile("mov %%db0, %0" : "=r"(dr[0]));
	__asm__ volatile("mov %%db1, %0" : "=r"(dr[1]));
	__asm__ volatile("mov %%db2, %0" : "=r"(dr[2]));
	__asm__ volatile("mov %%db3, %0" : "=r"(dr[3]));
	__asm__ volatile("mov %%db6, %0" : "=r"(dr[6]));
}

/* Bits of DR6 above 31 would fault and are dropped. */
static inline void debug_registers_write(const uint64_t dr[8])
{
	__asm__ volatile("mov %0, %%db0" : : "r"(dr[0]));
	__asm__ volatile("mov %0, %%db1" : : "r"(dr[1]));
	__asm__ volatile("mov %0, %%db2" : : "r"(dr[2]));
	__asm__ volatile("mov %0, %%db3" : : "r"(dr[3]));
	__asm__ volatile("mov %0, %%db6" : : "r"(dr[6] & BITS(31, 0)));
}

#endif
