/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small user of /dev/kvm beside kvmtest.c: machines of two processors, all at once, which ask each other by interrupts and add to their
 * memory (l2smp.asm), while their owner zaps what is mapped for them: slots deleted, moved, write-protected by the dirty log, the pages
 * below taken away and given back with the same contents. Every sum and every word is compared.
 *
 *     kvmsmp [rounds [machines]]
 *
 * Prints "kvmsmp: N rounds, all good" and ends with 0, or what was wrong.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (1024ul * 1024)
#define MEMORY (8 * MIB)
#define CODE                                                                                                           \
	0x1000u /* as in l2smp.asm, all down to COUNT: addresses of the interrupt's handler and the descriptors, then code */
#define AREA (2 * MIB)
#define COMMON (6 * MIB)
#define PAGES 64u
#define VECTOR 0x40u
#define COUNT 0x9000u
#define IDT 0x8000u
#define STACK 0x8000u /* of 4 KiB each, below */
#define STEPS 8u      /* l2smp.asm's rounds in one of ours */
#define CPUS 2u
#define MACHINES_MAX 2
#define SCRATCH_AT 0x40000000ul

extern const uint8_t l2_begin[], l2_end[];
__asm__(".section .rodata\n.global l2_begin, l2_end\nl2_begin: .incbin \"" L2_BINARY "\"\nl2_end:\n.previous");

struct processor {
	struct machine *machine;
	unsigned number;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
};

struct machine {
	int vm, backing;
	uint8_t *memory, *scratch;
	pthread_barrier_t barrier;
	struct processor cpu[CPUS];
	unsigned zaps;
};

static unsigned rounds;
static unsigned running; /* atomic: processors that haven't done their rounds */

static void fail(const char *what, unsigned round, uint64_t have, uint64_t want)
{
	printf("kvmsmp: FAILED in round %u: %s is 0x%lx, not 0x%lx\n", round, what, (unsigned long)have,
	       (unsigned long)want);
	exit(1);
}

static int checked(int result, const char *what)
{
	if (result >= 0)
		return result;
	perror(what);
	exit(1);
}

static void set_slot(const struct machine *m, unsigned slot, uint32_t flags, uint64_t at, uint64_t size)
{
	struct kvm_userspace_memory_region region = { .slot = slot,
						      .flags = flags,
						      .guest_phys_addr = at,
						      .memory_size = size,
						      .userspace_addr = (uintptr_t)(slot ? m->scratch : m->memory) };

	checked(ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

static uint32_t word(const struct machine *m, uint64_t where)
{
	return *(volatile uint32_t *)(m->memory + where);
}

static void make_processor(struct machine *m, unsigned number, int kvm)
{
	struct processor *p = &m->cpu[number];
	struct kvm_mp_state state = { KVM_MP_STATE_RUNNABLE };

	p->machine = m;
	p->number = number;
	p->fd = checked(ioctl(m->vm, KVM_CREATE_VCPU, number), "KVM_CREATE_VCPU");
	p->run = mmap(NULL, (size_t)checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE"),
		      PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
	checked(ioctl(p->fd, KVM_SET_MP_STATE, &state), "KVM_SET_MP_STATE");
}

static void make(struct machine *m, int kvm)
{
	uint32_t handler, *gate;
	uint64_t identity = 0xfffbc000;

	m->vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	if (ioctl(m->vm, KVM_SET_TSS_ADDR, 0xfffbd000ul) == 0)
		checked(ioctl(m->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity), "KVM_SET_IDENTITY_MAP_ADDR");
	checked(ioctl(m->vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
	m->backing = checked(memfd_create("l2", 0), "memfd_create");
	checked(ftruncate(m->backing, MEMORY), "ftruncate");
	m->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, m->backing, 0);
	m->scratch = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->memory == MAP_FAILED || m->scratch == MAP_FAILED)
		fail("mmap", 0, 0, 1);
	memcpy(m->memory + CODE, l2_begin, (size_t)(l2_end - l2_begin));
	memcpy(&handler, l2_begin, sizeof(handler));
	gate = (uint32_t *)(m->memory + IDT + VECTOR * 8);
	gate[0] = 8 << 16 | (handler & 0xffff);
	gate[1] = (handler & 0xffff0000) | 0x8e00;
	set_slot(m, 0, 0, 0, MEMORY);
	set_slot(m, 1, 0, SCRATCH_AT, MIB);
	pthread_barrier_init(&m->barrier, NULL, CPUS);
	for (unsigned i = 0; i < CPUS; i++)
		make_processor(m, i, kvm);
}

static void set_registers(const struct processor *p, uint32_t add)
{
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1
	};
	struct kvm_regs regs = { .rip = CODE + 8,
				 .rflags = 2,
				 .rbx = p->number,
				 .rsi = STEPS,
				 .rbp = add,
				 .rsp = STACK - p->number * 4096 };
	struct kvm_sregs s;
	uint32_t gdt;

	memcpy(&gdt, l2_begin + 4, sizeof(gdt));
	checked(ioctl(p->fd, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
	s.ds = s.es = s.fs = s.gs = s.ss = s.cs = data;
	s.cs.type = 11;
	s.cs.selector = 8;
	s.cr0 |= 1;
	s.gdt = (struct kvm_dtable){ .base = gdt, .limit = 23 };
	s.idt = (struct kvm_dtable){ .base = IDT, .limit = VECTOR * 8 + 7 };
	checked(ioctl(p->fd, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
	checked(ioctl(p->fd, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

static void run(const struct processor *p, unsigned round, uint32_t sum)
{
	uint32_t have;

	while (ioctl(p->fd, KVM_RUN, 0) < 0)
		;
	if (p->run->exit_reason != KVM_EXIT_IO || p->run->io.port != 0x10) {
		struct kvm_regs regs;

		checked(ioctl(p->fd, KVM_GET_REGS, &regs), "KVM_GET_REGS");
		printf("kvmsmp: processor %u at rip 0x%lx, internal error %u\n", p->number, (unsigned long)regs.rip,
		       p->run->internal.suberror);
		fail("exit", round, p->run->exit_reason, KVM_EXIT_IO);
	}
	memcpy(&have, (uint8_t *)p->run + p->run->io.data_offset, sizeof(have));
	if (have != sum)
		fail("sum", round, have, sum);
}

/* All have got the same number of times what was added. */
static void *run_processor(void *context)
{
	const struct processor *p = context;
	struct machine *m = p->machine;
	uint64_t area = AREA + p->number * 2 * MIB;
	uint32_t all = 0;

	for (unsigned round = 1; round <= rounds; round++) {
		uint32_t add = round * 2654435761u, sum = 0;

		for (unsigned step = 1; step <= STEPS; step++)
			sum += PAGES * (all + step * add);
		all += STEPS * add;
		*(volatile uint32_t *)(m->memory + COUNT + p->number * 4) = 0;
		set_registers(p, add);
		pthread_barrier_wait(&m->barrier);
		run(p, round, sum);
		pthread_barrier_wait(&m->barrier);
		for (unsigned i = 0; i < PAGES; i++) {
			if (word(m, area + i * 4096ul) != all)
				fail("a word", round, word(m, area + i * 4096ul), all);
			if (word(m, COMMON + i * 4096ul) != 2 * all)
				fail("a common word", round, word(m, COMMON + i * 4096ul), 2 * all);
		}
		if (!p->number && round % 10 == 0)
			printf("kvmsmp: round %u\n", round);
		if (word(m, COUNT + p->number * 4) != STEPS)
			fail("interrupts", round, word(m, COUNT + p->number * 4), STEPS);
		pthread_barrier_wait(&m->barrier);
	}
	__atomic_fetch_sub(&running, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* Under processors that run: no content changes. */
static void zap(struct machine *m)
{
	uint64_t bitmap[MEMORY / 4096 / 64], piece = m->zaps % 3 * 2 * MIB;
	struct kvm_dirty_log log = { .dirty_bitmap = bitmap };

	switch (m->zaps++ % 5) {
	case 0: /* deleted: all translations go */
		set_slot(m, 1, 0, SCRATCH_AT, 0);
		set_slot(m, 1, 0, SCRATCH_AT, MIB);
		break;
	case 1: set_slot(m, 1, 0, SCRATCH_AT + (m->zaps & 1) * MIB, MIB); break; /* moved */
	case 2:                                                                  /* write-protected, and again */
		set_slot(m, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, MEMORY);
		checked(ioctl(m->vm, KVM_GET_DIRTY_LOG, &log), "KVM_GET_DIRTY_LOG");
		usleep(1000);
		checked(ioctl(m->vm, KVM_GET_DIRTY_LOG, &log), "KVM_GET_DIRTY_LOG");
		set_slot(m, 0, 0, 0, MEMORY);
		break;
	case 3: checked(madvise(m->memory + AREA + piece, PAGES * 4096ul, MADV_DONTNEED), "madvise"); break;
	default:
		if (mmap(m->memory + AREA + piece, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, m->backing,
			 (off_t)(AREA + piece)) == MAP_FAILED)
			fail("mmap", 0, 0, 1);
	}
}

int main(int argc, char **argv)
{
	static struct machine m[MACHINES_MAX];
	unsigned machines = argc > 2 ? (unsigned)atoi(argv[2]) : 1, zaps = 0;
	int kvm = checked(open("/dev/kvm", O_RDWR), "/dev/kvm");

	setvbuf(stdout, NULL, _IOLBF, 0);
	rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 100;
	if (!machines || machines > MACHINES_MAX)
		return 2;
	running = machines * CPUS;
	for (unsigned i = 0; i < machines; i++)
		make(&m[i], kvm);
	for (unsigned i = 0; i < machines * CPUS; i++)
		pthread_create(&m[i / CPUS].cpu[i % CPUS].thread, NULL, run_processor, &m[i / CPUS].cpu[i % CPUS]);
	while (__atomic_load_n(&running, __ATOMIC_SEQ_CST)) {
		zap(&m[zaps++ % machines]);
		usleep(2000);
	}
	for (unsigned i = 0; i < machines * CPUS; i++)
		pthread_join(m[i / CPUS].cpu[i % CPUS].thread, NULL);
	printf("kvmsmp: %u rounds, %u changes beneath, all good\n", rounds, zaps);
	return 0;
}
