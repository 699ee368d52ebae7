/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/vcpu/access.c vm/vcpu/port.c vm/vcpu/mmio.c vm/vcpu/nobody.c vm/vcpu/interrupts.c vm/vcpu/step.c vm/emulate/*.c lib/format.c
/*
 * Second-level faults and events, with the emulator itself above a physical memory played by the test: 64 KiB of RAM, and
 * a device's register at DEVICE that reads otherwise each time, a ROM, and nobody anywhere else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <string.h>

#include "arch/x86_64/host.h"
#include "arch/x86_64/registers.h"
#include "dev/apic/lapic.h"
#include "pgm/handlers.h"
#include "pgm/shadow/a20.h"
#include "pgm/slat/misconfig.h"
#include "pgm/walk.h"
#include "vm/machine.h"
#include "vm/vcpu/nested.h"

#define DEVICE 0xfee00000u
#define ROM 0xf0000u
#define RIP 0x1000u

static void load(struct hv_vcpu *v, uint32_t groups)
{
	v->valid |= groups;
}
static unsigned code(const struct hv_vcpu *v)
{
	return HV_CODE_FLAT;
}
static const struct hv_ops ops = { .name = "test", .load = load, .code = code };
const struct hv_ops *hv = &ops;
struct hv_caps hv_capabilities = { .slat = SLAT_NPT };

static struct hv_vcpu h;
static struct flush_domain domain;
static struct machine machine;
static struct vcpu vcpu;
static uint8_t ram[65536];
static unsigned device_reads, device_writes;
static uint32_t device_written;
static bool interrupt_pending, no_memory;
static struct lapic lapic;
static unsigned ends, roms, pops;
static uint64_t rom_bytes;
static char end_text[200];

enum status pgm_read(struct pgm *pgm, gpa_t from, void *to, size_t length, enum pgm_origin origin, size_t *done)
{
	if (from.v + length <= sizeof(ram)) {
		memcpy(to, ram + from.v, length);
	} else {
		memset(to, 0, length);
		*(uint8_t *)to = (uint8_t)++device_reads;
	}
	return OK;
}
enum status pgm_write(struct pgm *pgm, gpa_t to, const void *from, size_t length, enum pgm_origin origin, size_t *done)
{
	if (to.v + length <= sizeof(ram)) {
		memcpy(ram + to.v, from, length);
	} else {
		device_writes++;
		memcpy(&device_written, from, length < 4 ? length : 4);
	}
	return OK;
}
enum status pgm_read_simple(struct pgm *pgm, gpa_t from, void *to, size_t length)
{
	return from.v < sizeof(ram) ? pgm_read(pgm, from, to, length, ORIGIN_GUEST, NULL) : HANDLER;
}
enum status pgm_fetch(struct pgm *pgm, struct pgm_fetch *fetch, gpa_t from, void *to, size_t length)
{
	return pgm_read_simple(pgm, from, to, length);
}
enum status pgm_device_access(struct pgm *pgm, struct pgm_access *access)
{
	if (access->where.v < sizeof(ram))
		return NOT_FOUND;
	return access->write ? pgm_write(pgm, access->where, &access->value, access->size, ORIGIN_GUEST, NULL)
			     : pgm_read(pgm, access->where, &access->value, access->size, ORIGIN_GUEST, NULL);
}
uint32_t host_pkru(const void *area)
{
	return 0;
}
enum status pgm_compare_exchange(struct pgm *pgm, gpa_t where, uint64_t expected, uint64_t desired, unsigned size,
				 uint64_t *seen)
{
	if (where.v >= sizeof(ram))
		return HANDLER;
	*seen = 0;
	memcpy(seen, ram + where.v, size);
	if (*seen == expected)
		memcpy(ram + where.v, &desired, size);
	return OK;
}
enum pgm_verdict pgm_take_fault(struct pgm *pgm, gpa_t where, unsigned access, bool again,
				struct pgm_vcpu_counters *count)
{
	if (no_memory)
		return PGM_NO_MEMORY;
	return where.v < sizeof(ram) ? PGM_RESUME : PGM_EMULATE;
}
enum pgm_verdict pgm_a20_fault(struct pgm *pgm, gpa_t where, unsigned access)
{
	return pgm_take_fault(pgm, where, access, true, NULL);
}
void pgm_count_misconfig(struct pgm *pgm)
{
}
enum status guest_walk(struct pgm *pgm, const struct walk_context *c, gva_t where, unsigned access,
		       struct walk_result *r)
{
	return BAD_VALUE;
}
uint8_t cpuid_physical_bits(const struct cpuid_policy *policy)
{
	return 40;
}
bool cpuid_has_1g(const struct cpuid_policy *policy)
{
	return false;
}
uint32_t port_read(struct bus *bus, uint16_t port, unsigned size)
{
	return 0;
}
void port_write(struct bus *bus, uint16_t port, unsigned size, uint32_t value)
{
}
uint64_t timer_next(const struct timer_queue *queue)
{
	return UINT64_MAX;
}
void machine_timer_moved(struct machine *m)
{
}
void schedule_note(enum stretch what, uint64_t since)
{
}
uint64_t host_ns_to_tsc(uint64_t ns)
{
	return ns;
}
void machine_end(struct machine *m, enum machine_end end, uint32_t value, const char *text, ...)
{
	va_list args;

	ends++;
	va_start(args, text);
	vsnprintf(end_text, sizeof(end_text), text ? text : "", args);
	va_end(args);
}
bool pgm_handler_find(struct pgm *pgm, gpa_t where, struct pgm_handler_info *out)
{
	return where.v == DEVICE;
}
bool pgm_range_find(struct pgm *pgm, gpa_t where, struct pgm_range *out)
{
	out->type = where.v == ROM ? PAGE_ROM : PAGE_RAM;
	return where.v == ROM || where.v < sizeof(ram);
}
enum status pgm_add_rom(struct pgm *pgm, gpa_t base, uint64_t size, const char *name)
{
	assert_int_equal(base.v % PAGE_SIZE, 0);
	assert_int_equal(size, PAGE_SIZE);
	roms++;
	return OK;
}
enum status pgm_rom_load(struct pgm *pgm, gpa_t where, const void *data, uint64_t size)
{
	for (uint64_t i = 0; i < size; i++)
		assert_int_equal(((const uint8_t *)data)[i], 0xff);
	rom_bytes += size;
	return OK;
}
uint64_t host_xcr0(void)
{
	return 0;
}
void host_fpu_save(void *area)
{
}
void host_fpu_restore(const void *area)
{
}
void host_fpu_vector(void *area, unsigned number, bool write, uint8_t value[64])
{
}
void host_fpu_x87(void *area, enum host_x87 what)
{
	pops += what == HOST_X87_POP;
}
void lapic_update(struct lapic *l)
{
	l->deliverable = interrupt_pending ? 0x40 : LAPIC_NOTHING;
}
int board_take_interrupt(struct board *board, struct lapic *l)
{
	interrupt_pending = false;
	lapic_update(l);
	return 0x40;
}

/* Flat 32-bit protected mode without paging; ECX points at the device. */
static void set_up(const char *code, size_t length)
{
	memset(&h, 0, sizeof(h));
	vcpu = (struct vcpu){ .hv = &h, .l1 = &h, .machine = &machine, .lapic = &lapic, .fetch.domain = &domain };
	lock_init(&machine.lock, RANK_MACHINE, "machine");
	machine.vcpu[0] = &vcpu;
	h.cr0 = CR0_PE | CR0_ET;
	h.rflags = 2;
	for (unsigned i = 0; i < SEG_COUNT; i++)
		h.segment[i] = (struct segment){ .limit = UINT32_MAX, .attributes = i == SEG_CS ? 0xc09b : 0xc093 };
	h.gpr[GPR_RAX] = 1;
	h.gpr[GPR_RCX] = DEVICE;
	h.gpr[GPR_RSP] = 0x8000;
	h.rip = RIP;
	memset(ram, 0x90, sizeof(ram));
	memcpy(ram + RIP, code, length);
	device_reads = device_writes = 0;
	device_written = 0;
	interrupt_pending = false;
	lapic_update(&lapic);
	ends = 0;
	end_text[0] = 0;
}

static enum exit_action fault_at_device(void)
{
	h.exit.kind = EXIT_SLAT_FAULT;
	h.exit.slat.gpa = gpa(DEVICE);
	h.exit.slat.access = ACCESS_WRITE;
	h.exit.slat.rights = 0;
	return exit_slat_fault(&vcpu);
}

/* A register that has moved on since it was read is written all the same: nothing makes the access atomic. */
static void test_locked_on_a_device(void **state)
{
	static const struct {
		const char *code;
		unsigned length;
		uint32_t written;
	} cases[] = {
		{ "\xf0\x81\x09\x00\x01\x00\x00", 7, 0x101 },     /* lock or dword [ecx], 0x100 */
		{ "\x87\x19", 2, 0x55 },                          /* xchg [ecx], ebx */
		{ "\xf0\x0f\xc7\x09", 4, 0x55 },                  /* lock cmpxchg8b [ecx] */
		{ "\xf0\x81\x49\x01\x00\x01\x00\x00", 8, 0x101 }, /* lock or dword [ecx + 1], 0x100 */
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		set_up(cases[i].code, cases[i].length);
		h.gpr[GPR_RBX] = 0x55;
		assert_int_equal(fault_at_device(), ACTION_ENTER);
		assert_int_equal(h.rip, RIP + cases[i].length);
		assert_int_equal(device_writes, 1);
		assert_int_equal(device_reads, 1);
		assert_int_equal(device_written, cases[i].written);
		assert_int_equal(h.inject.kind, EVENT_NONE);
	}
	set_up("\xf0\x81\x09\x00\x01\x00\x00", 7); /* on RAM it is atomic */
	h.gpr[GPR_RCX] = 0x4000;
	memset(ram + 0x4000, 0, 8);
	assert_int_equal(exit_emulate(&vcpu), ACTION_ENTER);
	assert_int_equal(h.rip, RIP + 7);
	assert_int_equal(ram[0x4001], 1);
}

/*
 * The processor was pushing onto, or reading, what only the emulator can reach: the instruction at RIP has no part in it,
 * and must neither be carried out nor fault.
 */
static void test_delivery_into_a_device(void **state)
{
	for (unsigned misconfig = 0; misconfig < 2; misconfig++)
		for (unsigned kind = EVENT_INTERRUPT; kind <= EVENT_SOFT_INTERRUPT; kind++) {
			set_up("\xff\x01", 2); /* inc dword [ecx] */
			h.exit.interrupted = (struct hv_event){ .kind = (uint8_t)kind, .vector = 0x31 };
			vcpu_recover_event(&vcpu);
			h.exit.slat.gpa = gpa(DEVICE);
			if (misconfig)
				assert_int_equal(exit_slat_misconfig(&vcpu), ACTION_LEAVE);
			else
				assert_int_equal(fault_at_device(), ACTION_LEAVE);
			assert_int_equal(h.rip, RIP);
			assert_int_equal(device_reads + device_writes, 0);
			assert_int_equal(ends, 1);
			assert_non_null(strstr(end_text, "event 0x31 can't be delivered by way of gpa 0xfee00000"));
		}
	/* In RAM that is merely not mapped yet the delivery comes again. */
	set_up("\xff\x01", 2);
	h.exit.interrupted = (struct hv_event){ .kind = EVENT_INTERRUPT, .vector = 0x31 };
	vcpu_recover_event(&vcpu);
	h.exit.slat.gpa = gpa(0x7000);
	assert_int_equal(exit_slat_fault(&vcpu), ACTION_ENTER);
	assert_true(h.inject.kind == EVENT_INTERRUPT && h.inject.vector == 0x31);
	assert_int_equal(ends, 0);
}

/* How a foreign instruction at [ecx] goes: to a page that is `where`. */
static enum exit_action foreign(const char *code, size_t length, uint64_t where, unsigned access)
{
	set_up(code, length);
	h.gpr[GPR_RCX] = where;
	h.exit.kind = EXIT_SLAT_FAULT;
	h.exit.slat.gpa = gpa(where);
	h.exit.slat.access = (uint8_t)access;
	return exit_slat_fault(&vcpu);
}

/* Where nobody answers an instruction that the emulator lacks stores nothing, or reads ones by itself; a device ends it. */
static void test_nobodys(void **state)
{
	machine.pages_of_ones = roms = pops = 0;
	rom_bytes = 0;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(foreign("\xdb\x39", 2, i ? ROM : 0x40000000, ACCESS_WRITE),
				 ACTION_ENTER); /* fstp m80 */
		assert_int_equal(h.rip, RIP + 2);
		assert_int_equal(pops, i + 1);
		assert_int_equal(foreign("\x0f\xae\x01", 3, i ? ROM : 0x40000000, ACCESS_WRITE),
				 ACTION_ENTER); /* fxsave */
		assert_int_equal(h.rip, RIP + 3);
	}
	assert_int_equal(pops, 2);
	assert_int_equal(roms, 0);
	assert_int_equal(foreign("\xdb\x01", 2, DEVICE, ACCESS_READ), ACTION_LEAVE); /* fild */
	assert_non_null(strstr(end_text, "db 01 (an x87)"));
	assert_int_equal(foreign("\x63\x01", 2, 0x40000000, ACCESS_READ | ACCESS_WRITE),
			 ACTION_LEAVE); /* arpl: reads, too */
	assert_int_equal(foreign("\xdb\x01", 2, ROM, ACCESS_READ),
			 ACTION_LEAVE); /* the processor reads that by itself */
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(foreign("\xdb\x01", 2, 0x40000000 + i * PAGE_SIZE + 8, ACCESS_READ), ACTION_ENTER);
		assert_int_equal(h.rip, RIP);
		assert_int_equal(roms, i + 1);
		assert_int_equal(rom_bytes, (i + 1) * PAGE_SIZE);
	}
	assert_int_equal(foreign("\xdb\x01", 2, 0x50000000, ACCESS_READ), ACTION_LEAVE);
	assert_int_equal(roms, 16);
}

/* One event goes with an entry; an NMI that has to wait is announced by its window. */
static void test_nmi_behind_an_exception(void **state)
{
	set_up("", 0);
	vcpu.nmi_pending = true;
	vcpu_inject_exception(&vcpu, VECTOR_PF, true, 2);
	vcpu_deliver(&vcpu);
	assert_true(h.inject.kind == EVENT_EXCEPTION && h.inject.vector == VECTOR_PF);
	assert_true(vcpu.nmi_pending && h.want_nmi_window);
	h.inject.kind = EVENT_NONE; /* taken */
	vcpu_deliver(&vcpu);
	assert_int_equal(h.inject.kind, EVENT_NMI);
	assert_false(vcpu.nmi_pending || h.want_nmi_window);
}

static bool nested_holds, nested_lets_interrupts;
bool vcpu_nested_takes_event(struct vcpu *v, enum hv_nested_event what)
{
	return nested_holds && !(nested_lets_interrupts && what == NESTED_INTERRUPT);
}

/* What waits for its hypervisor until a guest's guest has had its event doesn't keep that event from it. */
static void test_event_behind_hlt(void **state)
{
	static struct vcpu_nested nested;

	set_up("", 0);
	vcpu.activity = VCPU_HALTED;
	vcpu.nested = &nested;
	interrupt_pending = nested_holds = true;
	lapic_update(&lapic);
	assert_false(vcpu_has_wake_event(&vcpu));
	h.inject = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = VECTOR_DB };
	assert_true(vcpu_has_wake_event(&vcpu));
	/* An NMI that is held back hides no interrupt that isn't. */
	h.inject.kind = EVENT_NONE;
	h.rflags |= RFLAGS_IF;
	vcpu.nmi_pending = true;
	assert_false(vcpu_has_wake_event(&vcpu));
	nested_lets_interrupts = true;
	assert_true(vcpu_has_wake_event(&vcpu));
	vcpu.nested = NULL;
	nested_lets_interrupts = nested_holds = false;
}

/* An NMI ends HLT when the processor would take it: not before the IRET of the handler that is running. */
static void test_what_ends_hlt(void **state)
{
	for (unsigned blocked = 0; blocked < 2; blocked++) {
		set_up("", 0);
		vcpu.activity = VCPU_HALTED;
		assert_false(vcpu_has_wake_event(&vcpu));
		vcpu.nmi_pending = true;
		h.nmi_blocked = blocked;
		assert_int_equal(vcpu_has_wake_event(&vcpu), !blocked);
		interrupt_pending = true;
		lapic_update(&lapic);
		assert_int_equal(vcpu_has_wake_event(&vcpu), !blocked);
		h.rflags |= RFLAGS_IF;
		assert_true(vcpu_has_wake_event(&vcpu));
	}
}

/* The end of an interrupt is offered for the local APIC's own, where the guest has named a place; not for the PICs'. */
static unsigned offers;
void pv_eoi_offer(struct vcpu *v, uint8_t vector)
{
	assert_int_equal(v->hv->inject.vector, vector);
	offers++;
}
static void test_who_is_offered(void **state)
{
	for (unsigned i = 0; i < 4; i++) {
		set_up("", 0);
		h.rflags |= RFLAGS_IF;
		vcpu.pv.eoi = i & 1 ? 0x1001 : 0x1000;
		lapic.deliverable = i & 2 ? LAPIC_EXTINT : 0x41;
		interrupt_pending = true;
		offers = 0;
		vcpu_deliver(&vcpu);
		assert_int_equal(h.inject.kind, EVENT_INTERRUPT);
		assert_int_equal(offers, i == 1);
	}
}

/* A kick by a processor of its own ends one HLT, with interrupts off too, the next one if it comes early. */
static void test_kick_ends_hlt(void **state)
{
	set_up("", 0);
	vcpu.pv.kicked = true;
	for (unsigned i = 0; i < 2; i++) {
		vcpu.activity = VCPU_WAIT_SIPI;
		assert_false(vcpu_has_wake_event(&vcpu));
		vcpu.activity = i ? VCPU_HALTED : VCPU_RUNNABLE;
		assert_int_equal(vcpu_has_wake_event(&vcpu), !i);
	}
}

/* The host is short of memory for long, and a vcpu waits again and again: that fills no log. */
static void test_waits_are_told(void **state)
{
	unsigned told = 0;

	set_up("\x90", 1);
	for (unsigned i = 0; i < 5000; i++) {
		h.exit = (struct hv_exit){ .kind = EXIT_SLAT_FAULT, .slat = { .gpa = gpa(0), .access = ACCESS_WRITE } };
		no_memory = true;
		for (unsigned again = 0; again < 3; again++) {
			assert_int_equal(exit_slat_fault(&vcpu), ACTION_HALT);
			assert_true(vcpu.activity == VCPU_PARKED && !strcmp(vcpu.park_text, "no memory"));
		}
		told += vcpu.park_told;
		no_memory = false;
		vcpu.activity = VCPU_RUNNABLE;
		assert_int_equal(exit_slat_fault(&vcpu), ACTION_ENTER);
		assert_int_equal(vcpu.park_text[0], 0);
	}
	assert_in_range(told, 60, 80);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_locked_on_a_device),      cmocka_unit_test(test_delivery_into_a_device),
		cmocka_unit_test(test_waits_are_told),          cmocka_unit_test(test_nobodys),
		cmocka_unit_test(test_nmi_behind_an_exception), cmocka_unit_test(test_what_ends_hlt),
		cmocka_unit_test(test_kick_ends_hlt),           cmocka_unit_test(test_who_is_offered),
		cmocka_unit_test(test_event_behind_hlt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
