/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions of L2 that exit to L1, or don't, by what L1 asked for; all registers over exits. */
#include "hyper.h"
#include "svm.h"
#include "vmx.h"

#define KERNEL_GS_BASE 0xc0000102u
#define PORT 0x80u
#define ROUNDS 100u

static void set_bit(uint8_t *map, uint32_t bit, bool on)
{
	map[bit / 8] = (uint8_t)(on ? map[bit / 8] | 1u << bit % 8 : map[bit / 8] & ~(1u << bit % 8));
}

static void port_exits(uint32_t port, bool on)
{
	set_bit(hyper.vendor->svm ? svm_io_map : vmx_io_map, port, on);
}

/* MSRs from c000_0000h on: SVM two bits each in the second 2 KiB; VMX reads at 1 KiB, writes at 3 KiB. */
static void msr_exits(uint32_t msr, bool write, bool on)
{
	uint32_t index = msr & 0x1fff;

	if (hyper.vendor->svm)
		set_bit(svm_msr_map + 0x800, index * 2 + write, on);
	else
		set_bit(vmx_msr_map + (write ? 0xc00 : 0x400), index, on);
}

static void skip(struct l2 *l2, unsigned length)
{
	const struct vendor *v = hyper.vendor;

	if (l2->exit.length)
		check_equal(l2->exit.length, length);
	v->set(l2, L2_RIP, v->get(l2, L2_RIP) + length);
}

static void all_registers(struct l2 *l2)
{
	uint64_t *regs = (uint64_t *)&l2->regs;

	l2_do(l2, l2_registers, 6, 0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		if (!expect_exit("CPUID", l2, GOT_CPUID))
			return;
		skip(l2, 2);
		for (unsigned i = 0; i < 15; i++)
			regs[i] = i * 0x1111111111111111ull + round;
		l2_resume(l2);
		expect_exit("after CPUID", l2, GOT_HLT);
		for (unsigned i = 0; i < 15; i++)
			check(regs[i] == i * 0x1111111111111111ull + round + 1);
		check(hyper.vendor->get(l2, L2_RIP) < address_of(l2_registers) + 64);
		hyper.vendor->set(l2, L2_RIP, address_of(l2_registers));
		l2_resume(l2);
	}
	print("CPUID: %u round trips\n", ROUNDS);
}

static void floating_point(struct l2 *l2)
{
	l2_do(l2, l2_fpu, 0x123456789abcdef0, 0xfedcba9876543211);
	expect_exit("CPUID amid SSE", l2, GOT_CPUID);
	skip(l2, 2);
	l2->regs.rax = l2->regs.rdi = 0;
	l2_resume(l2);
	check(l2->regs.rax == 0xfedcba9876543211 && l2->regs.rdi == 0x123456789abcdef0);
}

static void ports(struct l2 *l2)
{
	check(l2_do(l2, l2_out, PORT, 1) == GOT_HLT);
	port_exits(PORT + 2, true); /* a double word at 80h reaches it */
	l2_do(l2, l2_out, PORT, 1);
	say_exit("OUT over a port that exits", l2);
	expect_exit("OUT over a port that exits", l2, GOT_IO);
	port_exits(PORT + 2, false);
	port_exits(PORT, true);
	l2_do(l2, l2_in, PORT, 1);
	say_exit("IN", l2);
	if (expect_exit("IN", l2, GOT_IO)) {
		skip(l2, 1);
		l2->regs.rax = 77;
		l2_resume(l2);
		check(l2->exit.kind == GOT_HLT && l2->regs.rax == 77);
	}
	port_exits(PORT, false);
	check(l2_do(l2, l2_in, PORT, 1) == GOT_HLT);
	l2_do(l2, l2_in, 0xfffe, 1);
	say_exit("IN over the end of the ports", l2);
}

static void msrs(struct l2 *l2)
{
	l2_do(l2, l2_wrmsr, KERNEL_GS_BASE, 0x1122334455667788 & 0x7fffffffffff);
	expect_exit("WRMSR", l2, GOT_HLT);
	check(rdmsr(KERNEL_GS_BASE) == (0x1122334455667788 & 0x7fffffffffff));
	wrmsr(KERNEL_GS_BASE, 0x1234);
	l2_do(l2, l2_rdmsr, KERNEL_GS_BASE, 0);
	expect_exit("RDMSR", l2, GOT_HLT);
	check(l2->regs.rax == 0x1234);
	msr_exits(KERNEL_GS_BASE, false, true);
	l2_do(l2, l2_rdmsr, KERNEL_GS_BASE, 0);
	expect_exit("RDMSR that exits", l2, GOT_RDMSR);
	check(l2_do(l2, l2_wrmsr, KERNEL_GS_BASE, 5) == GOT_HLT);
	msr_exits(KERNEL_GS_BASE, false, false);
	msr_exits(KERNEL_GS_BASE, true, true);
	check(l2_do(l2, l2_rdmsr, KERNEL_GS_BASE, 0) == GOT_HLT && l2->regs.rax == 5);
	l2_do(l2, l2_wrmsr, KERNEL_GS_BASE, 9);
	expect_exit("WRMSR that exits", l2, GOT_WRMSR);
	check(rdmsr(KERNEL_GS_BASE) == 5);
	msr_exits(KERNEL_GS_BASE, true, false);
	l2_do(l2, l2_rdmsr, 0x40000000, 0);
	expect_exit("RDMSR of none of the map's", l2, GOT_RDMSR);
}

static void clock(struct l2 *l2)
{
	uint64_t offset = 1ull << 50, before, after;

	hyper.vendor->tsc_offset(l2, offset);
	before = rdtsc();
	expect_exit("RDTSC", (l2_do(l2, l2_rdtsc, 0, 0), l2), GOT_HLT);
	after = rdtsc();
	check(l2->regs.rax - offset >= before && l2->regs.rax - offset <= after);
	if (hyper.vendor->tsc_half(l2, true)) {
		before = rdtsc();
		expect_exit("RDTSC at half speed", (l2_do(l2, l2_rdtsc, 0, 0), l2), GOT_HLT);
		after = rdtsc();
		check(l2->regs.rax - offset >= before / 2 - 1 && l2->regs.rax - offset <= after / 2 + 1);
		l2_do(l2, l2_rdmsr, 0x10, 0);
		after = rdtsc();
		check(l2->regs.rax - offset >= before / 2 - 1 && l2->regs.rax - offset <= after / 2 + 1);
		hyper.vendor->tsc_half(l2, false);
	}
	before = rdtsc() + (1ull << 40);
	expect_exit("WRMSR of the counter, which is L1's", (l2_do(l2, l2_wrmsr, 0x10, before), l2), GOT_HLT);
	after = rdtsc();
	check(hyper.qemu || (after >= before && after - before < 1ull << 32)); /* whose counter can't be written */
	hyper.vendor->intercept(l2, ON_RDTSC, true);
	expect_exit("RDTSC that exits", (l2_do(l2, l2_rdtsc, 0, 0), l2), GOT_RDTSC);
	hyper.vendor->intercept(l2, ON_RDTSC, false);
	hyper.vendor->tsc_offset(l2, 0);
}

/* Each without and with L1's asking for it. */
static void asked_for(struct l2 *l2)
{
	const struct {
		const char *name;
		const void *piece;
		enum l2_intercept what;
		enum exit_kind kind;
		uint64_t rdi, rax;
	} rows[] = {
		{ "INVLPG", l2_invlpg, ON_INVLPG, GOT_INVLPG, WINDOW, 0 },
		{ "MOV to CR3", l2_write_cr3, ON_CR3_WRITE, GOT_CR, hyper.vendor->get(l2, L2_CR3), 0 },
		{ "MOV from CR3", l2_read_cr3, ON_CR3_READ, GOT_CR, 0, 0 },
		{ "MOV to DR7", l2_write_dr, ON_DR, GOT_DR, 0, 0x400 },
		{ "PAUSE", l2_pause, ON_PAUSE, GOT_PAUSE, 0, 0 },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (unsigned on = 0; on < 2; on++) {
			if (on)
				hyper.vendor->intercept(l2, rows[i].what, true);
			l2_do(l2, rows[i].piece, rows[i].rdi, rows[i].rax);
			if (hyper.qemu && rows[i].what == ON_PAUSE && on)
				continue; /* a pause filter is what it lacks */
			expect_exit(rows[i].name, l2, on ? rows[i].kind : GOT_HLT);
			if (on)
				say_exit(rows[i].name, l2);
		}
		hyper.vendor->intercept(l2, rows[i].what, false);
	}
	l2_do(l2, l2_read_cr3, 0, 0);
	check(l2->regs.rax == hyper.vendor->get(l2, L2_CR3));
}

/* What isn't asked for is the processor's, or Quire's in its place: L2 sees L1's CPUID. Only SVM can leave CPUID alone. */
static void plain_cpuid(struct l2 *l2)
{
	struct cpuid_result own = cpuid(0x40000000, 0);
	struct vmcb *b = l2->control;

	if (!hyper.vendor->svm)
		return;
	b->intercepts[3] &= ~(1u << 18);
	l2_do(l2, l2_cpuid, 0, 0x40000000);
	expect_exit("CPUID that doesn't exit", l2, GOT_HLT);
	check_equal((uint32_t)l2->regs.rax, own.eax);
	check_equal((uint32_t)l2->regs.rbx, own.ebx);
	b->intercepts[3] |= 1u << 18;
}

void case_instructions(void)
{
	static const uint8_t vmcall[] = { 0x0f, 0x01, 0xc1 }, vmmcall[] = { 0x0f, 0x01, 0xd9 };

	for (unsigned paged = 0; paged < 2; paged++) {
		struct l2 *l2 = l2_new(paged);

		print("%s nested paging\n", paged ? "with" : "without");
		memcpy(l2_call, hyper.vendor->svm ? vmmcall : vmcall, 3);
		l2_do(l2, l2_halt, 0, 0);
		if (!expect_exit("HLT", l2, GOT_HLT)) {
			say_exit("the first of all", l2);
			return;
		}
		say_exit("HLT", l2);
		all_registers(l2);
		floating_point(l2);
		expect_exit("VMCALL", (l2_do(l2, l2_call, 1, 2), l2), GOT_CALL);
		ports(l2);
		msrs(l2);
		clock(l2);
		asked_for(l2);
		plain_cpuid(l2);
		if (triple_faults())
			expect_exit("triple fault", (l2_do(l2, l2_triple, 0, 0), l2), GOT_SHUTDOWN);
		hyper.vendor->make(l2);
	}
}
