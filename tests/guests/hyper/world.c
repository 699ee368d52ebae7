/* SPDX-License-Identifier: Apache-2.0 */
/* Memory, L2's own page tables and exception table, and how a piece of L2 is run. */
#include "hyper.h"

#define POOL_START (16 * MIB)
#define L2S 8u
#define STUB_SIZE 16u
#define STUBS 64u

struct gate {
	uint16_t low, selector, type, middle;
	uint32_t high, reserved;
};

static uint32_t pool = POOL_START;
static struct l2 l2s[L2S];
static unsigned l2s_made;
static struct gate l2_idt[STUBS] __attribute__((aligned(16)));
static uint8_t l2_stack[8192] __attribute__((aligned(16)));
static uint64_t *l2_root;
uint64_t *window_table;

void *page_take(void)
{
	void *page = (void *)(uintptr_t)pool;

	pool += PAGE;
	if (pool > memory_end || pool > 32 * MIB) {
		print("FAILED: out of pages\n");
		guest_exit(EXIT_FAILED);
	}
	memset(page, 0, PAGE);
	return page;
}

/* Between cases. */
void pages_give_back(void)
{
	pool = POOL_START;
	l2s_made = 0;
	l2_root = NULL;
}

uint64_t random64(void)
{
	static uint64_t state = 0x9e3779b97f4a7c15ull;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void make_l2_idt(void)
{
	for (unsigned i = 0; i < STUBS; i++) {
		uint64_t stub = address_of(l2_stubs) + i * STUB_SIZE;

		l2_idt[i] = (struct gate){ (uint16_t)stub,         SELECTOR_CODE64,        0x8e00,
					   (uint16_t)(stub >> 16), (uint32_t)(stub >> 32), 0 };
	}
}

/* The first GiB one to one by 2 MiB pages; the window by pages of 4 KiB. */
static void make_l2_tables(void)
{
	uint64_t *low, *directory, *window, *window_directory;

	l2_root = page_take();
	low = page_take();
	directory = page_take();
	window = page_take();
	window_directory = page_take();
	window_table = page_take();
	l2_root[0] = address_of(low) | 7;
	low[0] = address_of(directory) | 7;
	for (uint64_t i = 0; i < 512; i++)
		directory[i] = i * BLOCK | 0xe7;
	l2_root[1] = address_of(window) | 7;
	window[0] = address_of(window_directory) | 7;
	window_directory[0] = address_of(window_table) | 7;
	for (uint64_t i = 0; i < WINDOW_PAGES; i++)
		window_table[i] = (TARGET + i * PAGE) | 0x67;
	make_l2_idt();
}

struct l2 *l2_new(bool paged)
{
	struct l2 *l2;

	if (l2s_made == L2S) {
		print("FAILED: out of L2s\n");
		guest_exit(EXIT_FAILED);
	}
	if (!l2_root)
		make_l2_tables();
	l2 = &l2s[l2s_made++];
	*l2 = (struct l2){ .control = page_take(), .tag = l2s_made };
	if (paged)
		l2->root = slat_new();
	hyper.vendor->make(l2);
	hyper.vendor->set(l2, L2_CR3, address_of(l2_root));
	hyper.vendor->set(l2, L2_IDT_BASE, address_of(l2_idt));
	hyper.vendor->set(l2, L2_IDT_LIMIT, sizeof(l2_idt) - 1);
	return l2;
}

enum exit_kind l2_resume(struct l2 *l2)
{
	hyper.vendor->run(l2);
	return l2->exit.kind;
}

enum exit_kind l2_do(struct l2 *l2, const void *piece, uint64_t rdi, uint64_t rax)
{
	const struct vendor *v = hyper.vendor;

	l2_seen[0] = 0;
	l2->regs.rdi = rdi;
	l2->regs.rax = rax;
	v->set(l2, L2_RIP, address_of(piece));
	v->set(l2, L2_RSP, address_of(l2_stack) + sizeof(l2_stack) - 64);
	v->set(l2, L2_RFLAGS, 2);
	return l2_resume(l2);
}

const char *exit_name(enum exit_kind kind)
{
	static const char *const names[] = {
		"HLT",     "CPUID", "call",  "IO",    "RDMSR",  "WRMSR", "exception", "interrupt", "NMI",
		"window",  "CR",    "DR",    "RDTSC", "INVLPG", "PAUSE", "shutdown",  "violation", "misconfiguration",
		"invalid", "timer", "other",
	};

	return names[kind];
}

void say_exit(const char *what, const struct l2 *l2)
{
	const struct l2_exit *e = &l2->exit;

	print("%s: %s 0x%llx, 0x%llx, 0x%llx", what, exit_name(e->kind), (unsigned long long)e->reason,
	      (unsigned long long)e->info1, (unsigned long long)e->info2);
	if (e->event >> 31 & 1)
		print(", amid event 0x%llx", (unsigned long long)e->event);
	if (e->kind == GOT_EXCEPTION)
		print(", vector %u error 0x%llx", e->vector, (unsigned long long)e->error);
	if (l2_seen[0])
		print(", L2's own vector %u error 0x%llx cr2 0x%llx", (uint32_t)l2_seen[0] - 1,
		      (unsigned long long)l2_seen[1], (unsigned long long)l2_seen[2]);
	print("\n");
}

bool expect_exit(const char *what, const struct l2 *l2, enum exit_kind kind)
{
	if (l2->exit.kind == kind && !(kind == GOT_HLT && l2_seen[0]))
		return true;
	failures++;
	print("FAILED, not %s: ", exit_name(kind));
	say_exit(what, l2);
	return false;
}
