/* SPDX-License-Identifier: Apache-2.0 */
/* VMCS fields and instructions for the test hypervisor. SDM vol. 3 appendix B, chapter 31. */
#pragma once

#include "hyper.h"

enum {
	VPID = 0x0,
	GUEST_SELECTOR = 0x800, /* ES CS SS DS FS GS LDTR TR, two apart */
	HOST_SELECTOR = 0xc00,  /* without LDTR */
	IO_MAP_A = 0x2000,
	IO_MAP_B = 0x2002,
	MSR_MAP = 0x2004,
	EXIT_STORE = 0x2006,
	EXIT_LOAD = 0x2008,
	ENTRY_LOAD = 0x200a,
	TSC_OFFSET = 0x2010,
	VIRTUAL_APIC = 0x2012,
	APIC_ACCESS = 0x2014,
	EPT_POINTER = 0x201a,
	TSC_MULTIPLIER = 0x2032,
	PHYSICAL = 0x2400,
	LINK_POINTER = 0x2800,
	GUEST_PAT = 0x2804,
	GUEST_EFER = 0x2806,
	HOST_PAT = 0x2c00,
	HOST_EFER = 0x2c02,
	PIN = 0x4000,
	PROCESSOR = 0x4002,
	EXCEPTIONS = 0x4004,
	PF_MASK = 0x4006,
	PF_MATCH = 0x4008,
	CR3_COUNT = 0x400a,
	EXIT_CONTROLS = 0x400c,
	EXIT_STORE_COUNT = 0x400e,
	EXIT_LOAD_COUNT = 0x4010,
	ENTRY_CONTROLS = 0x4012,
	ENTRY_LOAD_COUNT = 0x4014,
	ENTRY_EVENT = 0x4016,
	ENTRY_ERROR = 0x4018,
	ENTRY_LENGTH = 0x401a,
	TPR_THRESHOLD = 0x401c,
	PROCESSOR_2 = 0x401e,
	INSTRUCTION_ERROR = 0x4400,
	REASON = 0x4402,
	EXIT_EVENT = 0x4404,
	EXIT_ERROR = 0x4406,
	VECTORING = 0x4408,
	VECTORING_ERROR = 0x440a,
	LENGTH = 0x440c,
	GUEST_LIMIT = 0x4800,
	GUEST_GDT_LIMIT = 0x4810,
	GUEST_IDT_LIMIT = 0x4812,
	GUEST_RIGHTS = 0x4814,
	INTERRUPTIBILITY = 0x4824,
	ACTIVITY = 0x4826,
	GUEST_SYSENTER_CS = 0x482a,
	TIMER = 0x482e,
	HOST_SYSENTER_CS = 0x4c00,
	CR0_MASK = 0x6000,
	CR4_MASK = 0x6002,
	CR0_SHADOW = 0x6004,
	CR4_SHADOW = 0x6006,
	QUALIFICATION = 0x6400,
	LINEAR = 0x640a,
	GUEST_CR0 = 0x6800,
	GUEST_CR3 = 0x6802,
	GUEST_CR4 = 0x6804,
	GUEST_BASE = 0x6806,
	GUEST_GDT_BASE = 0x6816,
	GUEST_IDT_BASE = 0x6818,
	GUEST_DR7 = 0x681a,
	GUEST_RSP = 0x681c,
	GUEST_RIP = 0x681e,
	GUEST_RFLAGS = 0x6820,
	PENDING_DEBUG = 0x6822,
	HOST_CR0 = 0x6c00,
	HOST_CR3 = 0x6c02,
	HOST_CR4 = 0x6c04,
	HOST_FS_BASE = 0x6c06,
	HOST_GS_BASE = 0x6c08,
	HOST_TR_BASE = 0x6c0a,
	HOST_GDT_BASE = 0x6c0c,
	HOST_IDT_BASE = 0x6c0e,
	HOST_RSP = 0x6c14,
	HOST_RIP = 0x6c16,
};

#define PIN_INTERRUPT 1u
#define PIN_NMI 8u
#define PIN_VIRTUAL_NMI (1u << 5)
#define PIN_TIMER (1u << 6)
#define PROC_WINDOW 4u
#define PROC_TSC_OFFSET 8u
#define PROC_HLT (1u << 7)
#define PROC_INVLPG (1u << 9)
#define PROC_RDTSC (1u << 12)
#define PROC_CR3_LOAD (1u << 15)
#define PROC_CR3_STORE (1u << 16)
#define PROC_NMI_WINDOW (1u << 22)
#define PROC_DR (1u << 23)
#define PROC_IO_MAPS (1u << 25)
#define PROC_MSR_MAPS (1u << 28)
#define PROC_PAUSE (1u << 30)
#define PROC_SECOND (1u << 31)
#define PROC2_APIC 1u
#define PROC2_EPT 2u
#define PROC2_RDTSCP 8u
#define PROC2_VPID 32u
#define PROC2_UNRESTRICTED 128u
#define PROC2_TSC_SCALING (1u << 25)
#define EXIT_HOST64 (1u << 9)
#define EXIT_ACKNOWLEDGE (1u << 15)
#define EXIT_SAVE_EFER (1u << 20)
#define EXIT_LOAD_EFER (1u << 21)
#define ENTRY_IA32E (1u << 9)
#define ENTRY_EFER (1u << 15)

#define VMX_OK 0u
#define VMX_INVALID 1u /* VMfailInvalid */
#define VMX_VALID 2u   /* VMfailValid: a number stands in INSTRUCTION_ERROR */

/* Each returns VMX_*. */
#define VMX_ON_MEMORY(name)                                                                                            \
	static inline uint32_t name(uint64_t address)                                                                  \
	{                                                                                                              \
		uint8_t carry, zero;                                                                                   \
		__asm__ volatile(#name " %2" : "=@ccc"(carry), "=@ccz"(zero) : "m"(address) : "memory");               \
		return carry ? VMX_INVALID : zero ? VMX_VALID : VMX_OK;                                                \
	}
VMX_ON_MEMORY(vmxon)
VMX_ON_MEMORY(vmclear)
VMX_ON_MEMORY(vmptrld)

static inline uint32_t vmxoff(void)
{
	uint8_t carry, zero;

	__asm__ volatile("vmxoff" : "=@ccc"(carry), "=@ccz"(zero) : : "memory");
	return carry ? VMX_INVALID : zero ? VMX_VALID : VMX_OK;
}

static inline uint64_t vmptrst(void)
{
	uint64_t address = 0;

	__asm__ volatile("vmptrst %0" : "=m"(address) : : "memory");
	return address;
}

static inline uint32_t vmwrite_try(uint64_t field, uint64_t value)
{
	uint8_t carry, zero;

	__asm__ volatile("vmwrite %3, %2" : "=@ccc"(carry), "=@ccz"(zero) : "r"(field), "r"(value) : "memory");
	return carry ? VMX_INVALID : zero ? VMX_VALID : VMX_OK;
}

static inline uint32_t vmread_try(uint64_t field, uint64_t *value)
{
	uint8_t carry, zero;

	__asm__ volatile("vmread %3, %2" : "=@ccc"(carry), "=@ccz"(zero), "=r"(*value) : "r"(field) : "memory");
	return carry ? VMX_INVALID : zero ? VMX_VALID : VMX_OK;
}

static inline uint32_t invept(uint64_t type, uint64_t pointer)
{
	struct {
		uint64_t pointer, reserved;
	} descriptor = { pointer, 0 };
	uint8_t carry, zero;

	__asm__ volatile("invept %3, %2" : "=@ccc"(carry), "=@ccz"(zero) : "r"(type), "m"(descriptor) : "memory");
	return carry ? VMX_INVALID : zero ? VMX_VALID : VMX_OK;
}

static inline uint32_t invvpid(uint64_t type, uint16_t vpid, uint64_t linear)
{
	struct {
		uint64_t vpid, linear;
	} descriptor = { vpid, linear };
	uint8_t carry, zero;

	__asm__ volatile("invvpid %3, %2" : "=@ccc"(carry), "=@ccz"(zero) : "r"(type), "m"(descriptor) : "memory");
	return carry ? VMX_INVALID : zero ? VMX_VALID : VMX_OK;
}

/* On the VMCS of this L2, which becomes the current one. A failure ends the test. */
void vmx_current(struct l2 *l2);
void vmx_write(struct l2 *l2, uint32_t field, uint64_t value);
uint64_t vmx_read(struct l2 *l2, uint32_t field);
void vmx_forget_current(void);
extern uint8_t vmx_io_map[], vmx_msr_map[];
extern uint32_t vmx_revision;
