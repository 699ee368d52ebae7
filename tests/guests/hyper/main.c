/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which cases are run: all, or those whose names stand on the command line. "bochs", "qemu": what these emulators do otherwise than
 * the manual is allowed for; "strict": VMRUN's checks that they leave out are tried, too. "seed=", "rounds=", "millions=": of the random cases.
 */
#include "hyper.h"

struct hyper hyper;

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{ "instructions", case_instructions },
	{ "events", case_events },
	{ "interrupts", case_interrupts },
	{ "matrix", case_matrix },
	{ "stale", case_stale },
	{ "chaos", case_chaos },
	{ "soak", case_soak },
	{ "vmcs", case_vmcs },
	{ "checks", case_checks },
	{ "marks", case_marks },
	{ "controls", case_controls },
	{ "smp", case_smp },
	{ "crowd", case_crowd },
	{ "bench", case_bench },
};

static bool any_named(void)
{
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (option(cases[i].name))
			return true;
	return false;
}

void guest_main(void)
{
	bool some = any_named(), amd = cpuid(0, 0).ecx == 0x444d4163; /* AuthenticAMD */

	hyper.vendor = amd ? &svm_vendor : &vmx_vendor;
	hyper.bochs = option("bochs");
	hyper.qemu = option("qemu");
	hyper.physical_bits = cpuid(0x80000008, 0).eax & 0xff;
	hyper.large_1g = cpuid(0x80000001, 0).edx >> 26 & 1;
	/* In another 512 GiB than RAM where there are so many addresses: an entry of each level is the window's alone. */
	hyper.top_level = hyper.physical_bits >= 40 ? 3 : 2;
	hyper.target = hyper.top_level == 3 ? 1ull << 39 : 4ull << 30;
	pic_init(); /* nobody interrupts but who is asked to */
	if (!hyper.vendor->start()) {
		failures++;
		return;
	}
	print("%s, %u physical bits%s%s%s\n", hyper.vendor->name, hyper.physical_bits,
	      hyper.large_1g ? ", 1 GiB pages" : "", hyper.execute_only ? ", execute-only" : "",
	      hyper.accessed_dirty ? ", accessed and dirty bits" : "");
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned before = failures;

		if (some && !option(cases[i].name))
			continue;
		pages_give_back();
		cases[i].run();
		print("%s: %u failed\n", cases[i].name, failures - before);
	}
	hyper.vendor->stop();
}
