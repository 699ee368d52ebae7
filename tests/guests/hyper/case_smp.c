/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two processors of L1's ("cpus=2" on the command line): an L2 that goes from one to the other, tables changed beneath one that runs there,
 * and structures that the other changes while they are entered with. One at a time uses an L2, but where it says otherwise.
 */
#include "smp.h"
#include "svm.h"
#include "vmx.h"

#define ROUNDS 16u
#define ATTACKS 100u

enum order { NOTHING, RESUME, WAIT_FOR_FLAG, FLUSH_AND_READ, READ, HALT, AWAIT_STARTUP, ATTACK, LEAVE };

static struct l2 *l2, *second;
static volatile uint32_t order;
static volatile uint64_t flag[2]; /* ends l2_wait; counts its rounds */
static uint64_t *pages[2];
static struct {
	uint32_t index, reserved;
	uint64_t value;
} area[1] __attribute__((aligned(16)));

static void tell(enum order what)
{
	__atomic_store_n(&order, what, __ATOMIC_SEQ_CST);
}

static void await(void)
{
	while (__atomic_load_n(&order, __ATOMIC_SEQ_CST) != NOTHING)
		relax();
}

/* A VMCS that isn't cleared belongs to its processor (SDM vol. 3 section 25.11.1); a VMCB is memory. */
static void put_away(struct l2 *which)
{
	if (hyper.vendor->svm)
		return;
	check(vmclear(address_of(which->control)) == VMX_OK);
	vmx_forget_current();
	which->launched = false;
}

/* Behind the HLT that it exited at. */
static void step_on(void)
{
	hyper.vendor->set(l2, L2_RIP, hyper.vendor->get(l2, L2_RIP) + 1);
	l2_resume(l2);
}

/* What an entry reads, right and wrong by turns: a wrong one is refused, exits, or does no harm. */
static void attack(void)
{
	static const uint64_t wrong[] = { 1ull << 60, 0 };
	struct vmcb *b = l2->control;
	uint64_t *leaf = slat_entry(l2->root, TARGET, 0), right = *leaf, root = l2->root;

	for (unsigned i = 0; __atomic_load_n(&order, __ATOMIC_RELAXED) == ATTACK; i++) {
		*(volatile uint64_t *)leaf = i & 1 ? right : i & 2 ? 0 : right & ~1ull;
		*(volatile uint32_t *)&area[0].index = i & 1 ? 0xc0000102 : 0xc0000100;
		if (!hyper.vendor->svm)
			continue;
		*(volatile uint64_t *)&b->nested_root = root | wrong[i & 1];
		*(volatile uint32_t *)&b->asid = i & 2 ? l2->tag : 0;
		*(volatile uint64_t *)&b->cr4 = READ_CR(4) | wrong[i >> 2 & 1];
		*(volatile uint64_t *)&b->efer = i & 8 ? rdmsr(EFER) : 0;
		*(volatile uint32_t *)&b->intercepts[4] = i & 16 ? 3 : 2;
	}
	*leaf = right;
	area[0].index = 0xc0000102;
	if (!hyper.vendor->svm)
		return;
	b->nested_root = root;
	b->asid = l2->tag;
	b->cr4 = READ_CR(4);
	b->efer = rdmsr(EFER);
	b->intercepts[4] = 3;
}

static void other(unsigned cpu)
{
	if (!hyper.vendor->start())
		failures++;
	for (;;) {
		switch (__atomic_load_n(&order, __ATOMIC_SEQ_CST)) {
		case NOTHING: relax(); continue;
		case RESUME:
			step_on();
			put_away(l2);
			break;
		case WAIT_FOR_FLAG: l2_do(second, l2_wait, WINDOW, address_of((const void *)flag)); break;
		case FLUSH_AND_READ: hyper.vendor->flush(second, false); __attribute__((fallthrough));
		case READ: l2_do(second, l2_read, WINDOW, 0); break;
		case HALT:
			hyper.vendor->intercept(second, ON_HLT, false);
			l2_do(second, l2_halt, 0, 0);
			hyper.vendor->intercept(second, ON_HLT, true);
			break;
		case AWAIT_STARTUP:
			vmx_write(second, ACTIVITY, 3);
			l2_do(second, l2_halt, 0, 0);
			vmx_write(second, ACTIVITY, 0);
			break;
		case ATTACK: attack(); break;
		default:
			hyper.vendor->stop();
			tell(NOTHING);
			return;
		}
		tell(NOTHING);
	}
}

static void expect_there(enum order what, uint64_t value)
{
	tell(what);
	await();
	check(second->exit.kind == GOT_HLT && second->regs.rax == value);
}

/* A processor that comes to tables for the first time has nothing of them cached, whatever another has (SDM vol. 3 section 29.4). */
static void first_use(void)
{
	uint64_t *leaf = slat_entry(l2->root, TARGET, 0);

	*pages[0] = 100;
	*pages[1] = 101;
	l2_do(l2, l2_read, WINDOW, 0);
	check(l2->exit.kind == GOT_HLT && l2->regs.rax == 100);
	*leaf = slat_leaf(address_of(pages[1]), 0, ACCESS_ALL);
	expect_there(READ, 101);
	*leaf = slat_leaf(address_of(pages[0]), 0, ACCESS_ALL);
	hyper.vendor->flush(l2, false);
	expect_there(FLUSH_AND_READ, 100);
}

/* INIT gets an L2 that halts out to L1 (SDM vol. 3 section 26.2). SVM's stays pending, and strikes L1 afterwards. */
static void init_ends_halt(void)
{
	if (hyper.vendor->svm)
		return;
	tell(HALT);
	for (unsigned i = 0; i < 100000; i++)
		relax();
	send_ipi(cpu_apic_id[1], IPI_INIT);
	await();
	check(second->exit.reason == 3);
}

/* An L2 that waits for a SIPI sleeps until it comes, and L1 gets its vector (SDM vol. 3 sections 26.2, 27.2.1, 28.3.1.5). */
static void startup_comes(void)
{
	if (hyper.vendor->svm)
		return;
	second->exit.reason = 0;
	tell(AWAIT_STARTUP);
	for (unsigned i = 0; i < 100000; i++)
		relax();
	check(__atomic_load_n(&order, __ATOMIC_SEQ_CST) == AWAIT_STARTUP && !second->exit.reason);
	send_ipi(cpu_apic_id[1], IPI_STARTUP | 0x42);
	await();
	check(second->exit.reason == 4 && second->exit.info1 == 0x42);
	*pages[0] = 100;
	*slat_entry(l2->root, TARGET, 0) = slat_leaf(address_of(pages[0]), 0, ACCESS_ALL);
	expect_there(FLUSH_AND_READ, 100);
}

/* L2 counts, each time on the other processor; what it has in registers and memory goes along. */
static void moves(void)
{
	*pages[0] = 0;
	l2_do(l2, l2_count, WINDOW, 1);
	for (unsigned i = 1; i < ROUNDS; i++) {
		if (i & 1) {
			put_away(l2);
			tell(RESUME);
			await();
		} else {
			step_on();
		}
		if (!expect_exit("an L2 that moves", l2, GOT_HLT) || *pages[0] != i + 1 || l2->regs.rbx != i + 1)
			break;
	}
	check(*pages[0] == ROUNDS && l2->regs.rbx == ROUNDS);
	check(hyper.vendor->get(l2, L2_CR3) == hyper.vendor->get(second, L2_CR3));
}

/* Tables that both use change while an L2 runs there by the old ones: after that processor's own flush it sees the new ones. */
static void changes(void)
{
	uint64_t *leaf = slat_entry(l2->root, TARGET, 0);

	for (unsigned i = 0; i < ROUNDS; i++) {
		*pages[0] = 100;
		*pages[1] = 101;
		flag[0] = flag[1] = 0;
		*leaf = slat_leaf(address_of(pages[i & 1]), 0, ACCESS_ALL);
		tell(FLUSH_AND_READ);
		await();
		check(second->exit.kind == GOT_HLT && second->regs.rax == 100 + (i & 1));
		tell(WAIT_FOR_FLAG);
		while (flag[1] < 3)
			relax();
		*leaf = slat_leaf(address_of(pages[~i & 1]), 0, ACCESS_ALL);
		hyper.vendor->flush(l2, false);
		flag[0] = 1;
		await();
		tell(FLUSH_AND_READ);
		await();
		if (!check(second->exit.kind == GOT_HLT && second->regs.rax == 100 + (~i & 1)))
			break;
	}
}

static void attacked(void)
{
	unsigned seen[2] = { 0 };

	*pages[0] = 100;
	*slat_entry(l2->root, TARGET, 0) = slat_leaf(address_of(pages[0]), 0, ACCESS_ALL);
	hyper.vendor->flush(l2, false);
	area[0].index = 0xc0000102;
	if (!hyper.vendor->svm) {
		vmx_write(l2, ENTRY_LOAD, address_of(area));
		vmx_write(l2, ENTRY_LOAD_COUNT, 1);
	}
	tell(ATTACK);
	for (unsigned i = 0; i < ATTACKS; i++) {
		hyper.vendor->flush(l2, true);
		l2_do(l2, l2_read, WINDOW, 0);
		seen[l2->exit.kind == GOT_HLT && l2->regs.rax == 100]++;
	}
	tell(NOTHING);
	tell(FLUSH_AND_READ); /* the attack is over when this one is done */
	await();
	check(seen[0] + seen[1] == ATTACKS);
	hyper.vendor->flush(l2, true);
	l2_do(l2, l2_read, WINDOW, 0);
	check(expect_exit("after the attack", l2, GOT_HLT) && l2->regs.rax == 100);
	if (!hyper.vendor->svm)
		vmx_write(l2, ENTRY_LOAD_COUNT, 0);
}

void case_smp(void)
{
	if (option_number("cpus=", 1) < 2)
		return;
	l2 = l2_new(true);
	second = l2_new(true);
	hyper.vendor->set_root(second, l2->root);
	put_away(second);
	put_away(l2);
	for (unsigned i = 0; i < 2; i++)
		pages[i] = page_take();
	*slat_entry(l2->root, TARGET, 0) = slat_leaf(address_of(pages[0]), 0, ACCESS_ALL);
	if (!check(start_cpus(2, other)))
		return;
	first_use();
	print("tables are new to a processor\n");
	moves();
	print("an L2 has moved\n");
	changes();
	print("tables have changed\n");
	if (option("attack")) { /* emulators' own checks aren't up to it, and Bochs' INIT doesn't come through */
		init_ends_halt();
		startup_comes();
		attacked();
	}
	tell(LEAVE);
	await();
}
