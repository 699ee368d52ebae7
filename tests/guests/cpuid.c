/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID: vendor, the hypervisor's leaves, that registers and prefixes are treated as on a processor. */
#include "guest.h"

static void print_text(const char *what, const uint32_t *words, unsigned count)
{
	print("%s ", what);
	for (unsigned i = 0; i < count * 4; i++)
		put_char((char)(words[i / 4] >> (8 * (i % 4))));
	put_char('\n');
}

static struct cpuid_result prefixed_cpuid(uint32_t leaf)
{
	struct cpuid_result r;

	__asm__ volatile(".byte 0x66, 0x0f, 0xa2"
			 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
			 : "a"(leaf), "c"(0));
	return r;
}

static void check_prefix(void)
{
	struct cpuid_result plain = cpuid(0x40000000, 0), prefixed = prefixed_cpuid(0x40000000);

	check(!memcmp(&plain, &prefixed, sizeof(plain)));
}

void guest_main(void)
{
	struct cpuid_result r = cpuid(0, 0);
	uint32_t vendor[3] = { r.ebx, r.edx, r.ecx }, signature[3];

	print_text("vendor", vendor, 3);
	check(r.eax >= 1);
	check(!memcmp(vendor, "GenuineIntel", 12) || !memcmp(vendor, "AuthenticAMD", 12));
	r = cpuid(1, 0);
	check(r.ecx >> 31 & 1);   /* a hypervisor is there */
	check(r.edx >> 9 & 1);    /* an APIC */
	check(!(r.ecx >> 5 & 1)); /* no VMX */
	check_equal(r.ebx >> 24, 0);
	r = cpuid(0x40000000, 0);
	signature[0] = r.ebx;
	signature[1] = r.ecx;
	signature[2] = r.edx;
	print_text("hypervisor", signature, 3);
	check(!memcmp(signature, "QuireQuireQu", 12));
	check(r.eax >= 0x40000010);
	r = cpuid(0x40000010, 0);
	print("tsc %u kHz\n", r.eax);
	check(r.eax > 1000);
	check_prefix();
	r = cpuid(0x4fffffff, 0);
	check(!r.eax || cpuid(0, 0).eax >= 0x4fffffff);
}
