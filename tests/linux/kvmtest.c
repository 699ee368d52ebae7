/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small user of /dev/kvm, for Linux as a hypervisor that is itself a guest: it runs l2.asm in one or two machines in turn, answers
 * their ports and devices, changes their memory between rounds, and compares every value that comes out.
 *
 *     kvmtest [rounds [machines]]
 *
 * Prints "kvmtest: N rounds, all good" and ends with 0, or what was wrong. No irqchip: HLT comes out, interrupts go in by KVM_INTERRUPT.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (1024ul * 1024)
#define MEMORY (8 * MIB)
#define CODE 0x1000u
#define AREA (2 * MIB) /* as in l2.asm, all down to VECTOR */
#define PAGES 256u
#define MMIO 0xd0000000u
#define UNMAPPED 0x40001238u
#define VECTOR 0x40u
#define MACHINES_MAX 2

extern const uint8_t l2_begin[], l2_end[];
__asm__(".section .rodata\n.global l2_begin, l2_end\nl2_begin: .incbin \"" L2_BINARY "\"\nl2_end:\n.previous");

struct machine {
	int vm, vcpu;
	struct kvm_run *run;
	uint8_t *memory;
	uint32_t area_sum; /* what the area's words amount to before a round */
};

static const char text[] = "a line by rep outsb\n";
static unsigned round_now;

static void fail(const char *what, uint64_t have, uint64_t want)
{
	printf("kvmtest: FAILED in round %u: %s is 0x%lx, not 0x%lx\n", round_now, what, (unsigned long)have,
	       (unsigned long)want);
	exit(1);
}

static void expect(const char *what, uint64_t have, uint64_t want)
{
	if (have != want)
		fail(what, have, want);
}

static int checked(int result, const char *what)
{
	if (result >= 0)
		return result;
	perror(what);
	exit(1);
}

static void set_slot(struct machine *m, uint32_t flags, uint64_t size)
{
	struct kvm_userspace_memory_region slot = { .flags = flags,
						    .memory_size = size,
						    .userspace_addr = (uintptr_t)m->memory };

	checked(ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
}

static void set_cpuid(const struct machine *m)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[3];
	} table = { .head.nent = 3,
		    .entries = { { .function = 0, .eax = 1, .ebx = 0x11111111, .ecx = 0x22222222, .edx = 0x44444444 },
				 { .function = 1, .edx = 1 << 24 | 1 << 25 | 1 << 6 },
				 { .function = 0x80000001, .edx = 1 << 29 } } };

	checked(ioctl(m->vcpu, KVM_SET_CPUID2, &table), "KVM_SET_CPUID2");
}

static void make(struct machine *m, int kvm)
{
	m->vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	/* VMX without unrestricted guest runs real mode by these two. */
	if (ioctl(m->vm, KVM_SET_TSS_ADDR, 0xfffbd000ul) == 0) {
		uint64_t identity = 0xfffbc000;

		checked(ioctl(m->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity), "KVM_SET_IDENTITY_MAP_ADDR");
	}
	m->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->memory == MAP_FAILED)
		fail("mmap", 0, 1);
	set_slot(m, 0, MEMORY);
	m->vcpu = checked(ioctl(m->vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	m->run = mmap(NULL, (size_t)checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE"),
		      PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
	set_cpuid(m);
}

/* Real mode at CODE, all segments flat from 0. */
static void set_registers(const struct machine *m)
{
	struct kvm_regs regs = { .rip = CODE, .rflags = 2, .rbx = round_now };
	struct kvm_segment data = { .limit = 0xffff, .type = 3, .present = 1, .s = 1 };
	static struct kvm_sregs first;
	struct kvm_sregs s;

	if (!first.cr0)
		checked(ioctl(m->vcpu, KVM_GET_SREGS, &first), "KVM_GET_SREGS");
	s = first;
	s.ds = s.es = s.fs = s.gs = s.ss = s.cs = data;
	s.cs.type = 11;
	checked(ioctl(m->vcpu, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
	checked(ioctl(m->vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

/* Sum of 0 .. PAGES - 1, each plus the round. */
static uint32_t written_sum(void)
{
	return PAGES * (PAGES - 1) / 2 + PAGES * round_now;
}

/* The next thing that the guest must do, one a step. */
struct step {
	const char *what;
	uint32_t kind, where; /* KVM_EXIT_*, port or address */
	uint64_t value;       /* written by it, or given to it */
	uint32_t size;
	bool out;
};

static void check_io(const struct kvm_run *run, const struct step *s)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	uint64_t have = 0;

	expect("port", run->io.port, s->where);
	expect("direction", run->io.direction, s->out);
	expect("size", run->io.size, s->size);
	if (!s->out) {
		memcpy(data, &s->value, s->size);
		return;
	}
	memcpy(&have, data, s->size);
	expect(s->what, have, s->value);
}

static void check_mmio(struct kvm_run *run, const struct step *s)
{
	uint64_t have = 0;

	expect("address", run->mmio.phys_addr, s->where);
	expect("direction", run->mmio.is_write, s->out);
	expect("size", run->mmio.len, s->size);
	if (!s->out) {
		memcpy(run->mmio.data, &s->value, s->size);
		return;
	}
	memcpy(&have, run->mmio.data, s->size);
	expect(s->what, have, s->value);
}

static void step(const struct machine *m, const struct step *s)
{
	checked(ioctl(m->vcpu, KVM_RUN, 0), s->what);
	if (m->run->exit_reason != s->kind) {
		struct kvm_regs regs;

		checked(ioctl(m->vcpu, KVM_GET_REGS, &regs), "KVM_GET_REGS");
		printf("kvmtest: %s: exit reason %u (internal %u, hardware 0x%lx) at rip 0x%lx\n", s->what,
		       m->run->exit_reason, m->run->internal.suberror, (unsigned long)m->run->hw.hardware_exit_reason,
		       (unsigned long)regs.rip);
		fail("exit", m->run->exit_reason, s->kind);
	}
	if (s->kind == KVM_EXIT_IO)
		check_io(m->run, s);
	if (s->kind == KVM_EXIT_MMIO)
		check_mmio(m->run, s);
}

/* REP OUTSB: KVM hands over as many bytes at once as it likes. */
static void expect_text(const struct machine *m)
{
	for (size_t at = 0; at < sizeof(text) - 1;) {
		struct kvm_run *run = m->run;

		checked(ioctl(m->vcpu, KVM_RUN, 0), "rep outsb");
		expect("exit", run->exit_reason, KVM_EXIT_IO);
		expect("port", run->io.port, 0x30);
		if (memcmp((uint8_t *)run + run->io.data_offset, text + at, run->io.count))
			fail("text", at, 0);
		at += run->io.count;
	}
}

static void inject(const struct machine *m)
{
	struct kvm_interrupt interrupt = { VECTOR };

	checked(ioctl(m->vcpu, KVM_INTERRUPT, &interrupt), "KVM_INTERRUPT");
}

static void steps(const struct machine *m, const struct step *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		step(m, &list[i]);
}

static void one_round(struct machine *m)
{
	uint32_t sum = written_sum(), n = round_now;
	const struct step before[] = {
		{ "real mode's sum", KVM_EXIT_IO, 0x10, 5050, 2, true },
		{ "protected mode's product", KVM_EXIT_IO, 0x12, 12345u * n, 4, true },
		{ "the area before", KVM_EXIT_IO, 0x14, m->area_sum, 4, true },
		{ "the area after", KVM_EXIT_IO, 0x14, sum, 4, true },
		{ "CPUID", KVM_EXIT_IO, 0x16, 0x77777777, 4, true },
		{ "an MSR", KVM_EXIT_IO, 0x18, n + 0x12340000, 4, true },
		{ "the exit amid SSE", KVM_EXIT_IO, 0x1a, n + 0x12340000, 4, true },
		{ "XMM7", KVM_EXIT_IO, 0x1a, n, 4, true },
		{ "a port's input", KVM_EXIT_IO, 0x20, n * 3, 4, false },
		{ "that input, told", KVM_EXIT_IO, 0x20, n * 3, 4, true },
	};
	const struct step after[] = {
		{ "a register's new value", KVM_EXIT_MMIO, MMIO + 8, (uint64_t)n << 32 | 0x77, 8, true },
		{ "a register read", KVM_EXIT_MMIO, MMIO + 0x10, n & 0xffff, 2, false },
		{ "a register read to be changed", KVM_EXIT_MMIO, MMIO + 0x20, 0x20, 1, false },
		{ "that register, changed", KVM_EXIT_MMIO, MMIO + 0x20, 0x23, 1, true },
		{ "what was read", KVM_EXIT_IO, 0x22, n & 0xffff, 4, true },
		{ "CR2 and exceptions", KVM_EXIT_IO, 0x24, UNMAPPED + 0x11, 4, true },
		{ "HLT", KVM_EXIT_HLT, 0, 0, 0, false },
	};
	const struct step end[] = {
		{ "an interrupt", KVM_EXIT_IO, 0x26, 0x111, 4, true },
		{ "INT3", KVM_EXIT_IO, 0x26, 0x1111, 4, true },
		{ "the last HLT", KVM_EXIT_HLT, 0, 0, 0, false },
	};

	set_registers(m);
	steps(m, before, sizeof(before) / sizeof(before[0]));
	expect_text(m);
	steps(m, after, sizeof(after) / sizeof(after[0]));
	inject(m);
	steps(m, end, sizeof(end) / sizeof(end[0]));
	for (unsigned i = 0; i < PAGES; i++)
		expect("a word of the area", *(uint64_t *)(m->memory + AREA + i * 4096ul + i * 8ul), i + n);
	m->area_sum = sum;
}

/* The log must name each page of the area, and none of those that nobody touches. */
static void logged_round(struct machine *m)
{
	uint64_t bitmap[MEMORY / 4096 / 64] = { 0 };
	struct kvm_dirty_log log = { .dirty_bitmap = bitmap };

	set_slot(m, KVM_MEM_LOG_DIRTY_PAGES, MEMORY);
	for (int turn = 0; turn < 2; turn++) { /* the second: after the first reading has cleaned all pages */
		one_round(m);
		checked(ioctl(m->vm, KVM_GET_DIRTY_LOG, &log), "KVM_GET_DIRTY_LOG");
		for (unsigned i = 0; i < PAGES / 64; i++)
			expect("the log of the area", bitmap[AREA / 4096 / 64 + i], ~0ull);
		expect("the log of what isn't touched", bitmap[(AREA + 2 * MIB) / 4096 / 64], 0);
	}
	set_slot(m, 0, MEMORY);
}

/* What an owner does to a machine's memory between two rounds: the mapping must follow. */
static void change_memory(struct machine *m)
{
	uint8_t *area = m->memory + AREA;

	if (round_now % 4 == 1) { /* gone: zeros */
		checked(madvise(area, PAGES * 4096ul, MADV_DONTNEED), "madvise");
		m->area_sum = 0;
	} else if (round_now % 4 == 2) { /* other frames in the same places */
		uint8_t *other = mmap(NULL, PAGES * 4096ul, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		memcpy(other, area, PAGES * 4096ul);
		*(uint64_t *)other += 5;
		mremap(other, PAGES * 4096ul, PAGES * 4096ul, MREMAP_MAYMOVE | MREMAP_FIXED, area);
		m->area_sum += 5;
	} else if (round_now % 4 == 3) { /* the slot taken away and given again */
		set_slot(m, 0, 0);
		set_slot(m, 0, MEMORY);
	}
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 100, machines = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
	static struct machine m[MACHINES_MAX];
	int kvm = checked(open("/dev/kvm", O_RDWR), "/dev/kvm");

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!machines || machines > MACHINES_MAX)
		return 2;
	for (unsigned i = 0; i < machines; i++) {
		make(&m[i], kvm);
		memcpy(m[i].memory + CODE, l2_begin, (size_t)(l2_end - l2_begin));
	}
	for (round_now = 1; round_now <= rounds; round_now++) {
		struct machine *now = &m[round_now % machines];

		if (round_now % 8 == 5)
			logged_round(now);
		else
			one_round(now);
		change_memory(now);
	}
	printf("kvmtest: %u rounds, all good\n", rounds);
	return 0;
}
