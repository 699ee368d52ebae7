/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a multiboot guest under Linux KVM: the benchmark's other side. One vcpu or several, a thread each, KVM's own interrupt
 * controllers and timer, memory as one slot of anonymous pages.
 *
 *     kvm GUEST.elf [4k|2m] [MODULE-MIB] [wp|pml|smp=N|name=N]
 *
 * wp, pml: the guest measures the dirty log that this processor's KVM has; what it asks for (port 0xf5: 'o' turn it on, 'r' read
 * it; '1', '4': take the page at 40 MiB away, which an L2 sees at so many addresses) is done and timed here. 4k: the memory is kept out of transparent large pages; 2m: large pages are asked for. A module
 * of that size is filled before the guest starts, and named in its boot information. COM1's bytes go to standard
 * output; a write to port 0xf4 ends the program with status 0 if the value is 42. name=N: one of several for ksm.c, whose memory KSM may share; it stops
 * itself when its guest asks for equal pages to be looked for ('f'), and takes pages as QEMU's balloon does.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "multiboot.h"

#define BLOCK (2 * MIB)
#define COM1 0x3f8
#define EXIT_PORT 0xf4
#define HOST_PORT 0xf5
#define BALLOON_PORT 0xf6
#define BALLOON_ARRAY 256 /* tests/guests/overcommit.c */
#define ZAPPED (40 * MIB) /* tests/guests/hyper/case_bench.c */

static int kvm, vm;
static const char *way; /* of the dirty log */

static void make_memory(int large)
{
	uint8_t *area =
		mmap(NULL, MEMORY + BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED)
		fail("mmap");
	memory = (uint8_t *)(((uintptr_t)area + BLOCK - 1) & ~(BLOCK - 1));
	checked(madvise(memory, MEMORY, large ? MADV_HUGEPAGE : MADV_NOHUGEPAGE), "madvise");
}

static void set_registers(int vcpu, uint32_t entry)
{
	struct kvm_segment code = { .limit = ~0u, .selector = 0x10, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1 };
	struct kvm_segment data = code;
	struct kvm_regs regs = { .rip = entry, .rax = 0x2badb002, .rbx = INFO, .rflags = 2 };
	struct kvm_sregs s;

	data.selector = 0x18;
	data.type = 3;
	checked(ioctl(vcpu, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr0 = 0x11;
	s.cr4 = 0;
	checked(ioctl(vcpu, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
	checked(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

/* The guest's CPUID is the host's: a row of the benchmark is CPUID, and a table makes it cost something. */
static void set_cpuid(int vcpu)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} table = { .head.nent = 256 };

	checked(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &table), "KVM_GET_SUPPORTED_CPUID");
	checked(ioctl(vcpu, KVM_SET_CPUID2, &table), "KVM_SET_CPUID2");
}

static uint64_t ticks(void)
{
	return __builtin_ia32_rdtsc();
}

static void set_memory(uint32_t flags)
{
	checked(ioctl(vm, KVM_SET_USER_MEMORY_REGION,
		      &(struct kvm_userspace_memory_region){
			      .flags = flags, .memory_size = MEMORY, .userspace_addr = (uintptr_t)memory }),
		"KVM_SET_USER_MEMORY_REGION");
}

/* One row, in the guest's own form. The first word of the name: what was done. */
static void host_row(const char *what, uint64_t spent, uint64_t pages)
{
	printf("row log_%s_%s mode %lu sum 0x%lx count %lu\n", what, way, (unsigned long)(spent / pages),
	       (unsigned long)spent, (unsigned long)pages);
}

static void read_log(void)
{
	static uint64_t bitmap[MEMORY / 4096 / 64];
	struct kvm_dirty_log log = { .dirty_bitmap = bitmap };
	uint64_t before, spent, pages = 0;

	memset(bitmap, 0, sizeof(bitmap));
	before = ticks();
	checked(ioctl(vm, KVM_GET_DIRTY_LOG, &log), "KVM_GET_DIRTY_LOG");
	spent = ticks() - before;
	for (unsigned i = 0; i < sizeof(bitmap) / sizeof(bitmap[0]); i++)
		pages += (unsigned)__builtin_popcountl(bitmap[i]);
	host_row("read", spent, pages);
}

static void zap(uint8_t shadows)
{
	uint64_t before = ticks(), spent;

	checked(madvise(memory + ZAPPED, 4096, MADV_DONTNEED), "madvise");
	spent = ticks() - before;
	printf("row zap_%c mode %lu sum 0x%lx count 1\n", shadows, (unsigned long)spent, (unsigned long)spent);
}

/* One call a page, whatever its neighbours are. */
static void inflate(uint32_t array)
{
	uint32_t page[BALLOON_ARRAY];

	memcpy(page, memory + array, sizeof(page));
	for (unsigned i = 0; i < BALLOON_ARRAY; i++)
		checked(madvise(memory + page[i] * 4096ul, 4096, MADV_DONTNEED), "madvise");
}

static void turn(uint8_t what)
{
	uint64_t before = ticks();

	if (what == 'f')
		raise(SIGSTOP);
	if (what == '1' || what == '4')
		zap(what);
	if (!way)
		return;
	if (what == 'r')
		read_log();
	if (what != 'o')
		return; /* Linux makes its large pages when it likes */
	set_memory(KVM_MEM_LOG_DIRTY_PAGES);
	host_row("on", ticks() - before, 64 * MIB / 4096);
}

static void port_exit(struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	if (run->io.direction == KVM_EXIT_IO_IN)
		memset(data, run->io.port == COM1 + 5 ? 0x61 : 0xff, (size_t)run->io.size * run->io.count);
	else if (run->io.port == COM1)
		putchar(*data);
	else if (run->io.port == HOST_PORT)
		turn(*data);
	else if (run->io.port == BALLOON_PORT)
		inflate(*(uint32_t *)data);
	else if (run->io.port == EXIT_PORT) {
		fflush(stdout);
		exit(*data == 42 ? 0 : 1);
	}
}

static int new_vcpu(unsigned long number)
{
	int vcpu = checked(ioctl(vm, KVM_CREATE_VCPU, number), "KVM_CREATE_VCPU");

	set_cpuid(vcpu);
	return vcpu;
}

static void run_vcpu(int vcpu)
{
	struct kvm_run *run =
		mmap(NULL, (size_t)checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE"),
		     PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

	for (;;) {
		if (ioctl(vcpu, KVM_RUN, 0) < 0) {
			if (errno != EAGAIN) /* its INIT or SIPI has come: it runs at the next call */
				fail("KVM_RUN");
			continue;
		}
		if (run->exit_reason == KVM_EXIT_IO) {
			port_exit(run);
		} else if (run->exit_reason != KVM_EXIT_INTR) {
			printf("kvm: exit reason %u\n", run->exit_reason);
			exit(1);
		}
	}
}

/* One that waits for its SIPI. */
static void *run_other(void *vcpu)
{
	run_vcpu((int)(intptr_t)vcpu);
	return NULL;
}

static void start_others(unsigned long cpus)
{
	pthread_t thread;

	for (unsigned long number = 1; number < cpus; number++)
		if (pthread_create(&thread, NULL, run_other, (void *)(intptr_t)new_vcpu(number)))
			fail("pthread_create");
}

int main(int argc, char **argv)
{
	const char *pages = argc > 2 ? argv[2] : "4k";
	struct kvm_pit_config pit = { 0 };
	uint32_t top = 0, entry;
	char line[64];
	int vcpu, smp, name;

	if (argc < 2)
		return 2;
	/* All output at the end: Linux would be busy with a line while the guest runs the next row. */
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	kvm = checked(open("/dev/kvm", O_RDWR), "/dev/kvm");
	vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	make_memory(!strcmp(pages, "2m"));
	name = argc > 4 && !strncmp(argv[4], "name=", 5);
	if (name)
		checked(madvise(memory, MEMORY, MADV_MERGEABLE), "MADV_MERGEABLE");
	checked(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000), "KVM_SET_TSS_ADDR");
	checked(ioctl(vm, KVM_CREATE_IRQCHIP), "KVM_CREATE_IRQCHIP");
	checked(ioctl(vm, KVM_CREATE_PIT2, &pit), "KVM_CREATE_PIT2");
	set_memory(0);
	vcpu = new_vcpu(0);
	entry = load(argv[1], &top);
	smp = argc > 4 && !strncmp(argv[4], "smp=", 4);
	way = argc > 4 && !smp && !name ? argv[4] : NULL;
	snprintf(line, sizeof(line), "bench kvm zap %s%s%s", pages, way ? " log=" : " ", argc > 4 ? argv[4] : "");
	boot_information(line, top, argc > 3 ? strtoul(argv[3], NULL, 10) * MIB : 0);
	set_registers(vcpu, entry);
	if (smp)
		start_others(strtoul(argv[4] + 4, NULL, 10));
	run_vcpu(vcpu);
}
