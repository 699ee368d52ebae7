/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/vcpu/pv.c vm/vcpu/pv_clock.c vm/vcpu/pv_steal.c vm/vcpu/pv_eoi.c vm/vcpu/pv_call.c vm/config/topology.c
// threads
/*
 * Linux' interface for guests of KVM as a guest sees it: leaves, MSRs with any value, what stands in its memory after each single write,
 * hypercalls with any argument. The guest's memory is an array; a thread plays the guest where both are at work at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/kvm_para.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "arch/x86_64/host.h"
#include "dev/apic/lapic.h"
#include "vm/config/topology.h"
#include "pgm/modules.h"
#include "vm/vcpu/module_call.h"
#include "vm/vcpu/pv.h"

#define RAM 0x8000u
#define ROM_END 0x9000u

static _Alignas(4096) uint8_t memory[ROM_END];
static void (*after_write)(void);
static unsigned writes, writes_left;
static struct config_machine config;
static struct machine machine;
static struct hv_vcpu h[6];
static struct lapic lapic[6];
static struct vcpu vcpu[6];

/* ---- what the files ask of the rest ---- */

static void store(gpa_t to, const void *from, size_t length)
{
	uint64_t eight;
	uint32_t four;

	for (size_t at = 0, unit; at < length; at += unit) {
		unit = !((to.v + at) & 7) && length - at >= 8 ? 8 : !((to.v + at) & 3) && length - at >= 4 ? 4 : 1;
		if (unit == 8) {
			memcpy(&eight, (const uint8_t *)from + at, 8);
			__atomic_store_n((uint64_t *)(memory + to.v + at), eight, __ATOMIC_RELEASE);
		} else if (unit == 4) {
			memcpy(&four, (const uint8_t *)from + at, 4);
			__atomic_store_n((uint32_t *)(memory + to.v + at), four, __ATOMIC_RELEASE);
		} else {
			__atomic_store_n(memory + to.v + at, ((const uint8_t *)from)[at], __ATOMIC_RELEASE);
		}
	}
}

enum status pgm_write_simple(struct pgm *pgm, gpa_t to, const void *from, size_t length)
{
	assert_true(to.v + length <= RAM && to.v % PAGE_SIZE + length <= PAGE_SIZE);
	if (!writes_left)
		return NO_MEMORY;
	writes_left--;
	writes++;
	store(to, from, length);
	if (after_write)
		after_write();
	return OK;
}

enum status pgm_read_simple(struct pgm *pgm, gpa_t from, void *to, size_t length)
{
	assert_true(from.v + length <= RAM);
	memcpy(to, memory + from.v, length);
	return OK;
}

enum status pgm_compare_exchange(struct pgm *pgm, gpa_t where, uint64_t expected, uint64_t desired, unsigned size,
				 uint64_t *seen)
{
	assert_int_equal(size, 1);
	assert_true(where.v < RAM);
	if (!writes_left)
		return NO_MEMORY;
	*seen = __sync_val_compare_and_swap(memory + where.v, (uint8_t)expected, (uint8_t)desired);
	return OK;
}

bool pgm_range_find(struct pgm *pgm, gpa_t where, struct pgm_range *out)
{
	out->type = where.v < RAM ? PAGE_RAM : PAGE_ROM;
	return where.v < ROM_END;
}

static uint64_t hz = 3000000000;
uint64_t host_tsc_to_ns(uint64_t ticks)
{
	return (uint64_t)((unsigned __int128)ticks * 1000000000 / hz);
}
static bool in_step;
bool host_tsc_in_step(void)
{
	return in_step;
}
static uint64_t wall = UINT64_C(1767225600500000000);
uint64_t board_wall_clock(struct board *board)
{
	assert_int_equal(machine.lock.held, 1);
	return wall;
}
static unsigned received[6], requested[6];
static struct apic_message last_message;
static enum irq_fate fate;
enum irq_fate lapic_receive(struct lapic *l, const struct apic_message *message, bool own)
{
	assert_int_equal(own, l == vcpu[0].lapic);
	received[l - lapic]++;
	last_message = *message;
	return fate;
}
bool schedule_yield_to(struct vcpu *v, struct vcpu *other)
{
	return v != other && other->place == PLACE_READY;
}
void vcpu_request(struct vcpu *v, uint32_t requests)
{
	assert_int_equal(requests, REQUEST_EVENT);
	requested[v->id]++;
}
void vcpu_inject_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
	v->hv->inject = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = vector };
}
enum exit_action vcpu_inject_ud(struct vcpu *v)
{
	vcpu_inject_exception(v, VECTOR_UD, false, 0);
	return ACTION_ENTER;
}
bool vcpu_skip_slowly(struct vcpu *v)
{
	v->hv->rip += 3;
	return true;
}
bool test_call(struct vcpu *v, enum exit_action *action)
{
	return false;
}
static void load(struct hv_vcpu *v, uint32_t groups)
{
	v->valid |= groups;
}
static const struct hv_ops ops = { .name = "test", .load = load };
const struct hv_ops *hv = &ops;

/* Six vcpus, three cores to a socket: APIC ids 0 to 2 and 4 to 6. */
static void begin(void)
{
	memset(memory, 0, sizeof(memory));
	memset(received, 0, sizeof(received));
	memset(requested, 0, sizeof(requested));
	config = (struct config_machine){ .pv = 1, .topology = TOPOLOGY(2, 3, 1) };
	machine = (struct machine){ .config = &config, .vcpu_count = 6 };
	after_write = NULL;
	writes = 0;
	writes_left = UINT32_MAX;
	in_step = true;
	fate = IRQ_TAKEN;
	for (unsigned i = 0; i < 6; i++) {
		h[i] = (struct hv_vcpu){ .efer = EFER_LMA };
		h[i].segment[SEG_CS].attributes = SEG_ATTR_L;
		vcpu[i] = (struct vcpu){ .id = i, .hv = &h[i], .l1 = &h[i], .machine = &machine, .lapic = &lapic[i] };
		machine.vcpu[i] = &vcpu[i];
	}
}

static enum status msr(uint32_t number, uint64_t value)
{
	return pv_write_msr(&vcpu[0], number, &value);
}

/* ---- leaves and MSRs ---- */

static void test_leaves(void **state)
{
	struct cpuid_result leaf[2];

	begin();
	pv_tell(leaf);
	assert_int_equal(leaf[0].eax, 0x40000101);
	assert_memory_equal(&leaf[0].ebx, "KVMKVMKVM\0\0\0", 12);
	/* No delay, clock, steal time, EOI, unhalt, flush, IPI, yield, stable. */
	assert_int_equal(leaf[1].eax,
			 BIT(1) | BIT(3) | BIT(5) | BIT(6) | BIT(7) | BIT(9) | BIT(11) | BIT(13) | BIT(24));
	assert_int_equal(leaf[1].ebx | leaf[1].ecx | leaf[1].edx, 0);
	in_step = false;
	pv_tell(leaf);
	assert_int_equal(leaf[1].eax >> 24 & 1, 0);
}

static void test_places(void **state)
{
	static const struct {
		uint32_t msr;
		uint64_t value;
		enum status status;
	} cases[] = {
		{ MSR_KVM_WALL_CLOCK_NEW, 0x1000, OK },
		{ MSR_KVM_WALL_CLOCK_NEW, 0x1ff4, OK },
		{ MSR_KVM_WALL_CLOCK_NEW, 0x1ff8, DENIED }, /* into the next page */
		{ MSR_KVM_WALL_CLOCK_NEW, 0x1001, DENIED },
		{ MSR_KVM_WALL_CLOCK_NEW, RAM, DENIED }, /* ROM */
		{ MSR_KVM_WALL_CLOCK_NEW, UINT64_MAX & ~UINT64_C(3), DENIED },
		{ MSR_KVM_SYSTEM_TIME_NEW, 0x2021, OK },
		{ MSR_KVM_SYSTEM_TIME_NEW, 0x2fe1, OK },
		{ MSR_KVM_SYSTEM_TIME_NEW, 0x2fe5, DENIED },
		{ MSR_KVM_SYSTEM_TIME_NEW, 0x2023, DENIED },
		{ MSR_KVM_SYSTEM_TIME_NEW, RAM | 1, DENIED },
		{ MSR_KVM_SYSTEM_TIME_NEW, UINT64_MAX, DENIED },
		{ MSR_KVM_SYSTEM_TIME_NEW, UINT64_MAX - 1, OK }, /* off */
		{ MSR_KVM_STEAL_TIME, 0x3041, OK },
		{ MSR_KVM_STEAL_TIME, 0x3fc1, OK },
		{ MSR_KVM_STEAL_TIME, 0x3043, DENIED }, /* reserved bits */
		{ MSR_KVM_STEAL_TIME, 0x3060, DENIED },
		{ MSR_KVM_STEAL_TIME, RAM | 1, DENIED },
		{ MSR_KVM_STEAL_TIME, UINT64_C(1) << 63 | 1, DENIED },
		{ MSR_KVM_STEAL_TIME, 0, OK },
		{ MSR_KVM_PV_EOI_EN, 0x1ffd, OK },
		{ MSR_KVM_PV_EOI_EN, 0x1003, DENIED },
		{ MSR_KVM_PV_EOI_EN, RAM | 1, DENIED },
		{ MSR_KVM_PV_EOI_EN, 0, OK },
		{ MSR_KVM_ASYNC_PF_EN, 0x1001, NOT_FOUND },
		{ MSR_KVM_POLL_CONTROL, 1, NOT_FOUND },
		{ 0x4b564dff, 0, NOT_FOUND },
	};
	uint64_t value;

	begin();
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (msr(cases[i].msr, cases[i].value) != cases[i].status)
			fail_msg("msr %#x, value %#lx", cases[i].msr, cases[i].value);
		if (cases[i].status != OK)
			continue;
		assert_int_equal(pv_read_msr(&vcpu[0], cases[i].msr, &value), OK);
		assert_true(value == cases[i].value);
	}
	/* No memory: nothing has changed, it is done again. */
	writes_left = 1;
	assert_int_equal(msr(MSR_KVM_SYSTEM_TIME_NEW, 0x2001), NO_MEMORY);
	assert_int_equal(pv_read_msr(&vcpu[0], MSR_KVM_SYSTEM_TIME_NEW, &value), OK);
	assert_true(value == UINT64_MAX - 1);
	begin();
	assert_int_equal(msr(MSR_KVM_STEAL_TIME, 0x3041), OK);
	assert_int_equal(msr(MSR_KVM_SYSTEM_TIME_NEW, 0x2001), OK);
	pv_reset(&vcpu[0]);
	memset(memory, 0, sizeof(memory));
	pv_steal_begin(&vcpu[0]);
	pv_steal_end(&vcpu[0]);
	assert_int_equal(pv_clock_write(&vcpu[0]), OK);
	for (unsigned i = 0; i < RAM; i++)
		assert_int_equal(memory[i], 0);
	config.pv = 0;
	assert_int_equal(msr(MSR_KVM_SYSTEM_TIME_NEW, 0x2001), NOT_FOUND);
	assert_int_equal(pv_read_msr(&vcpu[0], MSR_KVM_SYSTEM_TIME_NEW, &value), NOT_FOUND);
}

/* ---- the clock ---- */

struct clock {
	uint32_t version, pad;
	uint64_t tsc, time;
	uint32_t scale;
	int8_t shift;
	uint8_t flags, reserved[2];
};

/* What a guest makes of a TSC, as the document says. */
static uint64_t clock_at(const struct clock *c, uint64_t tsc)
{
	uint64_t delta = tsc - c->tsc;

	delta = c->shift < 0 ? delta >> -c->shift : delta << c->shift;
	return c->time + (uint64_t)((unsigned __int128)delta * c->scale >> 32);
}

/* In step with the host's own over a year, at any speed, and zero where the machine began, whatever was written to the TSC. */
static void test_clock(void **state)
{
	static const uint64_t speeds[] = { 4000000,    999999999,  1000000000, 1000000001,
					   2100000123, 4000000000, 15000000000 };
	static const uint64_t adjusts[] = { 0, 12345, UINT64_C(0) - 777 };
	const struct clock *c = (const struct clock *)(memory + 0x2020);

	for (unsigned i = 0; i < sizeof(speeds) / sizeof(speeds[0]); i++)
		for (unsigned k = 0; k < 3; k++) {
			begin();
			hz = speeds[i];
			assert_int_equal(msr(MSR_KVM_SYSTEM_TIME_NEW, 0x2021), OK);
			vcpu[0].msr.tsc_adjust = adjusts[k];
			assert_int_equal(pv_clock_write(&vcpu[0]), OK);
			assert_int_equal(c->version & 1, 0);
			assert_int_equal(c->flags, 1);
			for (uint64_t t = 0; t < 365 * UINT64_C(86400) * hz; t += t / 3 + 1) {
				uint64_t told = clock_at(c, t + adjusts[k]), real = host_tsc_to_ns(t);

				assert_true(told <= real + 1 && real - told <= real / 1000000000 + 1);
			}
		}
	hz = 3000000000;
	in_step = false;
	assert_int_equal(pv_clock_write(&vcpu[0]), OK);
	assert_int_equal(c->flags, 0);
}

/* After each single write: who finds an even version twice has the whole of one clock. */
static struct clock before, after;
static unsigned shown, odd;
static void look(void)
{
	struct clock seen;

	memcpy(&seen, memory + 0x2020, sizeof(seen));
	odd += seen.version & 1;
	if (seen.version & 1)
		return;
	shown++;
	if (seen.version == before.version)
		assert_memory_equal(&seen, &before, sizeof(seen));
	else
		assert_int_equal(seen.tsc, after.tsc);
}

static void test_versions(void **state)
{
	begin();
	assert_int_equal(msr(MSR_KVM_SYSTEM_TIME_NEW, 0x2021), OK);
	after_write = look;
	shown = odd = 0;
	for (unsigned i = 1; i < 4; i++) {
		memcpy(&before, memory + 0x2020, sizeof(before));
		after.tsc = vcpu[0].msr.tsc_adjust = i * 1000;
		assert_int_equal(pv_clock_write(&vcpu[0]), OK);
		assert_int_equal(shown, i);
		assert_int_equal(odd, 2 * i);
	}
}

static void test_wall(void **state)
{
	uint32_t seen[3];

	begin();
	/* Two seconds into the machine's time. */
	machine.tsc_base = 0;
	h[0].tsc_offset = 2 * hz - rdtsc() + 99;
	vcpu[0].msr.tsc_adjust = 99;
	assert_int_equal(msr(MSR_KVM_WALL_CLOCK_NEW, 0x1000), OK);
	memcpy(seen, memory + 0x1000, sizeof(seen));
	assert_int_equal(seen[0] & 1, 0);
	assert_int_equal(seen[1], 1767225598);
	assert_in_range(seen[2], 1, 500000000);
	wall = 5; /* the guest has put its clock to the beginning of all time */
	assert_int_equal(msr(MSR_KVM_WALL_CLOCK_NEW, 0x1000), OK);
	memcpy(seen, memory + 0x1000, sizeof(seen));
	assert_true(!seen[1] && !seen[2]);
	wall = UINT64_C(1767225600500000000);
}

/* ---- steal time ---- */

static struct kvm_steal_time *const steal = (struct kvm_steal_time *)(memory + 0x3040);

static void test_steal(void **state)
{
	begin();
	steal->steal = 1000; /* from before the processor was off */
	vcpu[0].waited_ticks = 3 * 50;
	assert_int_equal(msr(MSR_KVM_STEAL_TIME, 0x3041), OK);
	assert_int_equal(steal->steal, 1000);
	vcpu[0].waited_ticks += 3 * 7;
	pv_steal_begin(&vcpu[0]);
	assert_int_equal(steal->steal, 1007);
	assert_int_equal(steal->version & 1, 0);
	assert_int_equal(steal->preempted, 0);
	writes = 0;
	pv_steal_begin(&vcpu[0]); /* nothing new */
	assert_int_equal(writes, 0);
	pv_steal_end(&vcpu[0]);
	assert_int_equal(steal->preempted, KVM_VCPU_PREEMPTED);
	h[0].flush_pending = false;
	pv_steal_begin(&vcpu[0]);
	assert_int_equal(steal->preempted, 0);
	assert_false(h[0].flush_pending);
	pv_steal_end(&vcpu[0]);
	steal->preempted |= KVM_VCPU_FLUSH_TLB;
	pv_steal_begin(&vcpu[0]);
	assert_int_equal(steal->preempted, 0);
	assert_true(h[0].flush_pending);
	/* What can't be read may have been a note; what can't be told comes with the next. */
	pv_steal_end(&vcpu[0]);
	h[0].flush_pending = false;
	vcpu[0].waited_ticks += 3;
	writes_left = 0;
	pv_steal_begin(&vcpu[0]);
	assert_true(h[0].flush_pending);
	writes_left = UINT32_MAX;
	pv_steal_begin(&vcpu[0]);
	assert_int_equal(steal->steal, 1008);
	/* Off: not a byte. */
	assert_int_equal(msr(MSR_KVM_STEAL_TIME, 0x3040), OK);
	writes = 0;
	vcpu[0].waited_ticks += 3;
	pv_steal_end(&vcpu[0]);
	pv_steal_begin(&vcpu[0]);
	assert_int_equal(writes, 0);
	assert_int_equal(steal->preempted, 0);
}

/* Another processor of the guest leaves notes while this one comes and goes: each one left is found at the next coming. */
static uint32_t stop;
static void *leave_notes(void *count)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uint8_t seen = KVM_VCPU_PREEMPTED;

		if (__atomic_compare_exchange_n(&steal->preempted, &seen, KVM_VCPU_PREEMPTED | KVM_VCPU_FLUSH_TLB,
						false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			++*(unsigned *)count;
	}
	return NULL;
}

static void test_notes(void **state)
{
	unsigned left = 0, found = 0;
	pthread_t guest;

	begin();
	assert_int_equal(msr(MSR_KVM_STEAL_TIME, 0x3041), OK);
	stop = 0;
	pthread_create(&guest, NULL, leave_notes, &left);
	for (unsigned i = 0; i < 200000; i++) {
		pv_steal_end(&vcpu[0]);
		if (!(i % 1000))
			sched_yield();
		h[0].flush_pending = false;
		pv_steal_begin(&vcpu[0]);
		found += h[0].flush_pending;
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(guest, NULL);
	assert_true(left);
	assert_int_equal(found, left);
}

/* ---- ends of interrupts ---- */

static bool alone;
static unsigned ends;
bool lapic_ends_alone(const struct lapic *l, uint8_t vector)
{
	assert_int_equal(vector, 0x41);
	return alone;
}
void lapic_end_of_interrupt(struct lapic *l)
{
	assert_ptr_equal(l, &lapic[0]);
	assert_false(vcpu[0].eoi_offered);
	ends++;
}

static void test_ends(void **state)
{
	struct hv_vcpu l2 = { 0 };

	begin();
	alone = true;
	ends = 0;
	assert_int_equal(msr(MSR_KVM_PV_EOI_EN, 0x4005), OK);
	/* Taken by the guest; left by it; and not to be had. */
	pv_eoi_offer(&vcpu[0], 0x41);
	assert_true(vcpu[0].eoi_offered && memory[0x4004] == 1);
	memory[0x4004] = 0;
	pv_eoi_settle(&vcpu[0]);
	assert_true(!vcpu[0].eoi_offered && ends == 1);
	pv_eoi_offer(&vcpu[0], 0x41);
	pv_eoi_settle(&vcpu[0]);
	assert_true(!vcpu[0].eoi_offered && ends == 1 && !memory[0x4004]);
	alone = false;
	pv_eoi_offer(&vcpu[0], 0x41);
	assert_true(!vcpu[0].eoi_offered && !memory[0x4004]);
	alone = true;
	vcpu[0].hv = &l2; /* not for a guest's guest, whose hypervisor knows nothing of it */
	pv_eoi_offer(&vcpu[0], 0x41);
	assert_true(!vcpu[0].eoi_offered && !memory[0x4004]);
	vcpu[0].hv = &h[0];
	writes_left = 0;
	pv_eoi_offer(&vcpu[0], 0x41);
	assert_false(vcpu[0].eoi_offered);
}

/* ---- hypercalls ---- */

static uint64_t call(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	h[0].gpr[GPR_RAX] = number;
	h[0].gpr[GPR_RBX] = a;
	h[0].gpr[GPR_RCX] = b;
	h[0].gpr[GPR_RDX] = c;
	h[0].gpr[GPR_RSI] = d;
	h[0].rip = 0x1000;
	h[0].inject.kind = EVENT_NONE;
	assert_int_equal(exit_hypercall(&vcpu[0]), ACTION_ENTER);
	assert_int_equal(h[0].rip, h[0].inject.kind == EVENT_NONE ? 0x1003 : 0x1000);
	return h[0].gpr[GPR_RAX];
}

static enum status module_status;
static uint64_t named[3];
enum status pgm_module_add(struct pgm *pgm, uint64_t name, gpa_t base, uint64_t pages)
{
	named[0] = name;
	named[1] = base.v;
	named[2] = pages;
	return module_status;
}
enum status pgm_module_remove(struct pgm *pgm, uint64_t name)
{
	return pgm_module_add(pgm, name, gpa(0), 0);
}

static void test_modules(void **state)
{
	static const struct {
		enum status status;
		int64_t answer;
	} answers[] = { { OK, 0 },      { NOT_FOUND, -2 },    { NO_MEMORY, -12 },
			{ LIMIT, -28 }, { BAD_ADDRESS, -22 }, { NOT_SUPPORTED, -95 } };

	begin();
	for (unsigned i = 0; i < ARRAY_SIZE(answers); i++) {
		module_status = answers[i].status;
		assert_true(call(QUIRE_CALL_MODULE, ~UINT64_C(5), UINT64_C(5) << 40, i, 0) ==
			    (uint64_t)answers[i].answer);
		assert_true(named[0] == ~UINT64_C(5) && named[1] == (i ? UINT64_C(5) << 40 : 0) && named[2] == i);
	}
	h[0].segment[SEG_CS].attributes = 0;
	(void)call(QUIRE_CALL_MODULE, ~UINT64_C(5), UINT64_C(5) << 32 | 0x7000, UINT64_C(9) << 32 | 3, 0);
	assert_true(named[0] == 0xfffffffa && named[1] == 0x7000 && named[2] == 3);
	named[2] = 77;
	h[0].segment[SEG_SS].attributes = 3 << 5;
	assert_true(call(QUIRE_CALL_MODULE, 1, 0x1000, 1, 0) == (uint32_t)-1);
	assert_int_equal(named[2], 77);
	begin();
}

static void test_calls(void **state)
{
	struct hv_vcpu l2 = { 0 };

	begin();
	assert_true(call(0, 0, 0, 0, 0) == (uint64_t)-1000);
	assert_true(call(UINT64_C(1) << 32 | KVM_HC_KICK_CPU, 0, 0, 0, 0) == (uint64_t)-1000);
	assert_true(call(KVM_HC_CLOCK_PAIRING, 0x1000, 0, 0, 0) == (uint64_t)-1000);
	/* A kick: HLT of that one ends. */
	assert_true(call(KVM_HC_KICK_CPU, 0, 4, 0, 0) == 0);
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(vcpu[i].pv.kicked, i == 3);
		assert_int_equal(requested[i], i == 3);
	}
	assert_true(call(KVM_HC_KICK_CPU, 0, 3, 0, 0) == 0); /* no such id */
	assert_true(call(KVM_HC_KICK_CPU, 0, UINT64_MAX, 0, 0) == 0);
	assert_true(call(KVM_HC_KICK_CPU, 0, UINT64_C(1) << 32, 0, 0) == 0);
	assert_int_equal(requested[0] + requested[1] + requested[2] + requested[4] + requested[5], 0);
	/* Outside 64-bit mode a register has 32 bits. */
	h[0].segment[SEG_CS].attributes = 0;
	assert_true(call(UINT64_C(1) << 32 | KVM_HC_KICK_CPU, 0, UINT64_C(1) << 32 | 1, 0, 0) == 0);
	assert_int_equal(requested[1], 1);
	assert_true(call(0, 0, 0, 0, 0) == (uint32_t)-1000);
	/* By the kernel only; and by nobody's guest; and not where it isn't offered. */
	h[0].segment[SEG_SS].attributes = 3 << 5;
	assert_true(call(KVM_HC_KICK_CPU, 0, 2, 0, 0) == (uint32_t)-1);
	assert_int_equal(requested[2], 0);
	h[0].segment[SEG_SS].attributes = 0;
	vcpu[0].hv = &l2;
	assert_int_equal(exit_hypercall(&vcpu[0]), ACTION_ENTER);
	assert_int_equal(l2.inject.vector, VECTOR_UD);
	vcpu[0].hv = &h[0];
	config.pv = 0;
	(void)call(KVM_HC_KICK_CPU, 0, 2, 0, 0);
	assert_int_equal(h[0].inject.vector, VECTOR_UD);
	assert_int_equal(requested[2], 0);
}

static void test_send(void **state)
{
	begin();
	assert_true(call(KVM_HC_SEND_IPI, 0x37, 0, 1, 0xd1) == 4); /* ids 1, 2, 3 (nobody), 5, 6 */
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(received[i], i == 1 || i == 2 || i == 4 || i == 5);
	assert_int_equal(last_message.vector, 0xd1);
	assert_int_equal(last_message.mode, DELIVERY_FIXED);
	assert_true(call(KVM_HC_SEND_IPI, 1, 0, 0, 0x400) == 1);
	assert_int_equal(last_message.mode, DELIVERY_NMI);
	assert_true(call(KVM_HC_SEND_IPI, 0, 1, 0, 0xd1) == 0);                                /* bit 64 */
	assert_true(call(KVM_HC_SEND_IPI, UINT64_MAX, UINT64_MAX, UINT64_MAX - 1, 0xd1) == 0); /* not round to id 0 */
	assert_true(call(KVM_HC_SEND_IPI, UINT64_MAX, UINT64_MAX, 0, 0xd1) == 6);
	fate = IRQ_UNHEARD;
	assert_true(call(KVM_HC_SEND_IPI, 3, 0, 0, 0xd1) == 0);
	fate = IRQ_TAKEN;
	memset(received, 0, sizeof(received));
	static const uint64_t bad[] = { 0x1d1,   0x2d1,   0x5d1,
					0x6d1,   0x7d1,   0x8d1,
					0x400d1, 0x800d1, UINT64_C(1) << 32 | 0xd1 };
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_true(call(KVM_HC_SEND_IPI, 3, 0, 0, bad[i]) == (uint64_t)-22);
	assert_int_equal(received[0] + received[1], 0);
	h[0].segment[SEG_CS].attributes = 0;
	assert_true(call(KVM_HC_SEND_IPI, UINT64_C(7) << 32 | 4, UINT64_C(7) << 32 | 1, UINT64_C(1) << 32, 0xd1) == 1);
	assert_int_equal(received[2], 1);
	assert_int_equal(machine.lock.held, 0);
}

static void test_yield(void **state)
{
	static const struct {
		uint64_t id;
		bool ready, self;
		enum exit_action action;
	} cases[] = {
		{ 5, true, false, ACTION_YIELD },
		{ 5, false, false, ACTION_ENTER },
		{ 0, true, true, ACTION_ENTER },
		{ 3, true, false, ACTION_ENTER }, /* nobody */
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin();
		vcpu[cases[i].self ? 0 : 4].place = cases[i].ready ? PLACE_READY : PLACE_ASLEEP;
		h[0].gpr[GPR_RAX] = KVM_HC_SCHED_YIELD;
		h[0].gpr[GPR_RBX] = cases[i].id;
		assert_int_equal(exit_hypercall(&vcpu[0]), cases[i].action);
		assert_int_equal(h[0].gpr[GPR_RAX], 0);
		assert_int_equal(h[0].rip, 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_leaves),   cmocka_unit_test(test_places), cmocka_unit_test(test_clock),
		cmocka_unit_test(test_versions), cmocka_unit_test(test_wall),   cmocka_unit_test(test_steal),
		cmocka_unit_test(test_notes),    cmocka_unit_test(test_calls),  cmocka_unit_test(test_modules),
		cmocka_unit_test(test_send),     cmocka_unit_test(test_yield),  cmocka_unit_test(test_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
