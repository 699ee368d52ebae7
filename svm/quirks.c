/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The known machines' deviations as data. Real processors, and emulators without a signature of their own (Bochs), get
 * the last row: no deviation. KVM passes the processor's own behaviour on.
 */
#include "svm/quirks.h"

#include "arch/x86_64/cpu.h"
#include "lib/bits.h"

#define CPUID_HYPERVISOR_PRESENT BIT(31) /* leaf 1 ECX */
#define CPUID_HYPERVISOR_LEAF 0x40000000u

struct svm_quirks svm_quirks;

static const struct {
	uint32_t ebx, ecx, edx;
	struct svm_quirks quirks;
} machines[] = {
	/* "TCGTCGTCGTCG" */
	{ 0x54474354,
	  0x43544743,
	  0x47435447,
	  { .machine = "QEMU TCG",
	    .entry_drops_shadow = true,
	    .breakpoints_leak = true,
	    .priority_aborts = true,
	    .injects_twice = true,
	    .xsetbv_silent = true,
	    .marks_pdptes = true,
	    .invalid_shows_host = true } },
};

void svm_quirks_detect(void)
{
	svm_quirks = (struct svm_quirks){ .machine = "none known" };
	if (!(cpuid(1, 0).ecx & CPUID_HYPERVISOR_PRESENT))
		return;
	/* Of a hypervisor between an emulator and this one only its own name is seen; what it can't hide is expected of every one. */
	svm_quirks.marks_pdptes = svm_quirks.xsetbv_silent = true;

	struct cpuid_result id = cpuid(CPUID_HYPERVISOR_LEAF, 0);

	for (unsigned i = 0; i < ARRAY_SIZE(machines); i++)
		if (id.ebx == machines[i].ebx && id.ecx == machines[i].ecx && id.edx == machines[i].edx)
			svm_quirks = machines[i].quirks;
}
