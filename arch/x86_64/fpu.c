/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's FPU state: saved and restored whole with XSAVE in its standard form (or FXSAVE on a machine without it).
 * The host's XCR0 is the set of states that guests may have. Intel SDM vol. 1 chapter 13.
 *
 * A quirk that no CPUID bit tells and so is tried out: Bochs 2.7 begins the compacted form's components at byte 416
 * instead of 576 (section 13.4.3), where its header then overwrites registers and XRSTOR refuses the rest. Such a machine's guests
 * aren't told of XSAVEC, and use the standard form as the host does.
 */
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"

#define XSTATE_X87 BIT(0)
#define XSTATE_SSE BIT(1)
#define XSTATE_AVX BIT(2)
#define XSTATE_AVX512 BITS(7, 5)
#define XSTATE_PKRU BIT(9)

#define FXSAVE_SIZE 512u
#define XSAVE_HEADER 64u
/* The first component behind the header, in the compacted form on any processor. */
#define AVX_OFFSET (FXSAVE_SIZE + XSAVE_HEADER)
#define AVX_END (AVX_OFFSET + 256u)
#define SUBLEAF1_XSAVEC BIT(1)
#define OFFSET_FCW 0u
#define OFFSET_MXCSR 24u
#define OFFSET_XSTATE_BV FXSAVE_SIZE
#define FCW_RESET 0x37fu
#define MXCSR_RESET 0x1f80u

/* FXSAVE's beginning; SDM vol. 1 section 10.5.1. */
struct x87_head {
	uint16_t fcw, fsw;
	uint8_t tags, reserved; /* a bit for each register, not the top's: set where it isn't empty */
	uint16_t opcode;
	uint64_t ip, dp;
};
#define FSW_TOP_SHIFT 11
#define FSW_TOP 0x3800u
#define FPU_SLOT 16u
#define OFFSET_ST0 32u
#define OFFSET_XMM0 160u

uint64_t host_xcr0(void)
{
	static uint64_t known;
	struct cpuid_result r;
	uint64_t offered, wanted;

	if (known || !features.xsave)
		return known;
	r = cpuid(0xd, 0);
	offered = (uint64_t)r.edx << 32 | r.eax;
	wanted = offered & (XSTATE_X87 | XSTATE_SSE | XSTATE_AVX | XSTATE_PKRU);
	/* The three AVX-512 states go together, and only with AVX: SDM vol. 1 section 13.3. */
	if ((offered & XSTATE_AVX512) == XSTATE_AVX512 && wanted & XSTATE_AVX)
		wanted |= XSTATE_AVX512;
	known = wanted | XSTATE_X87;
	return known;
}

/* End of the furthest component, from its own sub-leaf: leaf 0xd's EBX follows the XCR0 of the moment. */
size_t host_fpu_size(void)
{
	size_t size = FXSAVE_SIZE + (features.xsave ? XSAVE_HEADER : 0);

	for (uint32_t i = 2; i < 63; i++)
		if (host_xcr0() >> i & 1) {
			struct cpuid_result r = cpuid(0xd, i);
			size_t end = (size_t)r.eax + r.ebx;

			size = end > size ? end : size;
		}
	return size;
}

static void init_legacy(void *area)
{
	const uint16_t fcw = FCW_RESET;
	const uint32_t mxcsr = MXCSR_RESET;

	memcpy((char *)area + OFFSET_FCW, &fcw, sizeof(fcw));
	memcpy((char *)area + OFFSET_MXCSR, &mxcsr, sizeof(mxcsr));
}

void host_fpu_init(void *area)
{
	/* A header of zeros means: every component in its initial state. */
	memset(area, 0, host_fpu_size());
	init_legacy(area);
}

void host_fpu_save(void *area)
{
	uint64_t mask = host_xcr0();
	uint32_t low = (uint32_t)mask, high = (uint32_t)(mask >> 32);

	if (mask)
		__asm__ volatile("xsave64 (%0)" : : "r"(area), "a"(low), "d"(high) : "memory");
	else
		__asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
}

/*
 * Many of AMD's processors restore where the last x87 instruction and its operand were, and its opcode, only with an exception
 * pending (AMD APM vol. 5 FXRSTOR): else the next guest could read its predecessor's. FNINIT clears all three.
 */
void host_fpu_restore(const void *area)
{
	uint64_t mask = host_xcr0();
	uint32_t low = (uint32_t)mask, high = (uint32_t)(mask >> 32);

	if (!features.restores_fp_pointers)
		__asm__ volatile("fninit");
	if (mask)
		__asm__ volatile("xrstor64 (%0)" : : "r"(area), "a"(low), "d"(high) : "memory");
	else
		__asm__ volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
}

void host_use_protection_keys(void)
{
	if (features.pku)
		write_cr4(read_cr4() | CR4_PKE);
}

uint32_t host_pkru(const void *area)
{
	uint32_t value = 0;
	uint64_t held;

	if (!features.pku || !(host_xcr0() & XSTATE_PKRU))
		return 0;
	if (!area)
		return rdpkru();
	memcpy(&held, (const char *)area + OFFSET_XSTATE_BV, sizeof(held));
	if (held & XSTATE_PKRU)
		memcpy(&value, (const char *)area + cpuid(0xd, 9).ebx, sizeof(value));
	return value;
}

/* Saves AVX state that is all ones in the compacted form: it must stand behind the header. */
bool host_compacts_rightly(void)
{
	static uint8_t area[AVX_END] __attribute__((aligned(64)));
	const uint32_t states = XSTATE_X87 | XSTATE_SSE | XSTATE_AVX;
	bool right = true;

	if ((host_xcr0() & states) != states || !(cpuid(0xd, 1).eax & SUBLEAF1_XSAVEC))
		return false;
	init_legacy(area);
	area[FXSAVE_SIZE] = XSTATE_AVX;
	memset(area + AVX_OFFSET, 0xff, AVX_END - AVX_OFFSET);
	__asm__ volatile("xrstor64 (%0)" : : "r"(area), "a"(states), "d"(0) : "memory");
	memset(area, 0, sizeof(area));
	__asm__ volatile("xsavec64 (%0)" : : "r"(area), "a"(states), "d"(0) : "memory");
	for (unsigned i = AVX_OFFSET; i < AVX_END; i++)
		right &= area[i] == 0xff;
	memset(area, 0, sizeof(area));
	init_legacy(area);
	__asm__ volatile("xrstor64 (%0)" : : "r"(area), "a"(states), "d"(0) : "memory");
	return right;
}

static void mark_in_use(void *area, unsigned component)
{
	if (host_xcr0())
		*((uint8_t *)area + OFFSET_XSTATE_BV + component / 8) |= 1u << component % 8;
}

/* `size` bytes of a component between the area and value. */
static void exchange(void *area, unsigned component, size_t at, bool write, uint8_t *value, size_t size)
{
	uint8_t *held = (uint8_t *)area + at;

	if (!write) {
		memcpy(value, held, size);
	} else if (memcmp(held, value, size) != 0) {
		memcpy(held, value, size);
		mark_in_use(area, component);
	}
}

static void mmx_register(void *area, unsigned number, bool write, uint8_t *value)
{
	uint8_t *held = (uint8_t *)area + OFFSET_ST0 + FPU_SLOT * number, old[8 * FPU_SLOT];
	struct x87_head *x87 = area;
	unsigned top = x87->fsw >> FSW_TOP_SHIFT & 7;

	/* ST0 stands first, MM0 is the register that ST0 is when TOP is 0. */
	memcpy(old, (uint8_t *)area + OFFSET_ST0, sizeof(old));
	for (unsigned i = 0; i < 8; i++)
		memcpy((uint8_t *)area + OFFSET_ST0 + FPU_SLOT * i, old + FPU_SLOT * ((i - top) % 8), FPU_SLOT);
	x87->fsw &= ~FSW_TOP;
	x87->tags = 0xff;
	mark_in_use(area, 0);
	exchange(area, 0, OFFSET_ST0 + FPU_SLOT * number, write, value, 8);
	if (write)
		memset(held + 8, 0xff, 2); /* sign and exponent */
}

void host_fpu_vector(void *area, unsigned number, bool write, uint8_t value[64])
{
	static const struct {
		uint8_t component, at, size;
	} parts[] = { { 2, 16, 16 }, { 6, 32, 32 } };

	if (!write)
		memset(value, 0, 64);
	if (number >= 32) {
		mmx_register(area, number % 8, write, value);
		return;
	}
	if (number >= 16) { /* only with AVX-512 */
		exchange(area, 7, cpuid(0xd, 7).ebx + 64 * (number - 16), write, value, 64);
		return;
	}
	exchange(area, 1, OFFSET_XMM0 + FPU_SLOT * number, write, value, FPU_SLOT);
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		if (host_xcr0() >> parts[i].component & 1)
			exchange(area, parts[i].component,
				 cpuid(0xd, parts[i].component).ebx + (size_t)parts[i].size * number, write,
				 value + parts[i].at, parts[i].size);
}

void host_fpu_x87(void *area, enum host_x87 what)
{
	struct x87_head *x87 = area;
	unsigned top = x87->fsw >> FSW_TOP_SHIFT & 7;

	mark_in_use(area, 0);
	switch (what) {
	case HOST_X87_POP:
		x87->tags &= ~(1u << top);
		x87->fsw = (x87->fsw & ~FSW_TOP) | ((top + 1) << FSW_TOP_SHIFT & FSW_TOP);
		return;
	case HOST_X87_MASK: x87->fcw |= 0x3f; return;
	case HOST_X87_RESET: *x87 = (struct x87_head){ .fcw = FCW_RESET }; return;
	}
}
