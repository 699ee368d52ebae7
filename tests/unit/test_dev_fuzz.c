/* SPDX-License-Identifier: Apache-2.0 */
// sources: dev/legacy/a20.c dev/apic/bus.c dev/debug_ports.c dev/fw_cfg.c dev/legacy/i8042.c dev/apic/ioapic.c dev/irq.c dev/apic/lapic.c dev/apic/lapic_access.c dev/apic/lapic_timer.c dev/legacy/pic.c dev/legacy/pic_chip.c dev/legacy/pit.c dev/legacy/pit_counter.c dev/pm.c dev/legacy/port92.c dev/ports.c dev/legacy/reset_port.c dev/legacy/rtc.c dev/legacy/rtc_cmos.c dev/legacy/rtc_time.c dev/tick.c dev/timer.c dev/legacy/uart.c dev/legacy/uart_receive.c
/*
 * A whole machine's devices under random accesses, under the sanitizers: nothing may be read or written out of bounds,
 * no call may take unbounded work, and what the APIC says is deliverable must follow from its registers.
 * DEV_FUZZ_SEED chooses the sequence; a failure prints the seed and the last accesses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "common/fake_bus.h"
#include "dev/clock.h"
#include "dev/debug_ports.h"
#include "dev/fw_cfg.h"
#include "dev/legacy/i8042.h"
#include "dev/irq.h"
#include "dev/apic/lapic.h"
#include "dev/legacy/pit.h"
#include "dev/pm.h"
#include "dev/legacy/port92.h"
#include "dev/legacy/reset_port.h"
#include "dev/legacy/rtc.h"
#include "dev/legacy/uart.h"

#define STEPS 300000u
#define TRACE 32u

static struct fake_bus fake;
static struct apic_bus apic_bus;
static struct irq_router router;
static struct lapic *lapics[2];
static struct ioapic *ioapic;
static struct pic *pic;
static struct pit *pit;
static struct rtc *rtc;
static struct uart *uart;
static struct i8042 *i8042;
static struct a20 a20;
static struct port92 *port92;
static struct reset_port *reset_port;
static struct pm *pm;
static struct fw_cfg *fw_cfg;
static const struct mmio_ops *ioapic_ops;

static uint64_t seed, state_word;
static struct {
	unsigned kind, size;
	uint64_t where, value;
} trace[TRACE];
static unsigned steps;

static uint64_t random_word(void)
{
	state_word ^= state_word << 13;
	state_word ^= state_word >> 7;
	state_word ^= state_word << 17;
	return state_word;
}

/* Values that matter more often than chance would have them. */
static uint64_t random_value(void)
{
	static const uint64_t special[] = {
		0, 1, 0xff, 0x80, 0x7f, 0xffff, 0x8000, UINT32_MAX, UINT64_MAX, 0x11, 0x20
	};
	uint64_t word = random_word();

	if (word % 4 == 0)
		return special[word / 4 % (sizeof(special) / sizeof(special[0]))];
	return random_word() >> (word / 8 % 64);
}

static void nothing(void *context)
{
}

static void nothing_sipi(void *context, uint8_t vector)
{
}

static uint64_t tsc(void *context)
{
	return clock_ticks(fake.time, 2000000000);
}

static const struct lapic_host host = { nothing, nothing, nothing, nothing_sipi, tsc };

static void pic_output(void *context, bool level)
{
	lapic_set_lint(lapics[0], 0, level);
}

static enum irq_fate set_irq(void *context, unsigned line, bool level)
{
	return irq_router_set(&router, line, level);
}

static enum status map(void *context, gpa_t where, uint64_t size, const struct mmio_ops *ops, void *device,
		       const char *name)
{
	ioapic_ops = ops;
	return OK;
}

static void build(void)
{
	enum status status = OK;

	fake_bus_open(&fake);
	fake.bus.set_irq = set_irq;
	fake.bus.map_mmio = map;
	apic_bus = (struct apic_bus){ 0 };
	router = (struct irq_router){ 0 };
	a20_init(&a20, &fake.bus);
	for (unsigned i = 0; i < 2; i++)
		status |= lapic_create(&fake.bus, &apic_bus, i, i == 0, 2000000000, &host, NULL, &lapics[i]);
	status |= ioapic_create(&fake.bus, &apic_bus, 2, &ioapic);
	status |= pic_create(&fake.bus, pic_output, NULL, &pic);
	router = (struct irq_router){ pic, ioapic };
	status |= pit_create(&fake.bus, &pit);
	status |= rtc_create(&fake.bus, 1700000000, UINT64_C(64) << 20, 0, &rtc);
	status |= uart_create(&fake.bus, 0x3f8, 4, &uart);
	status |= i8042_create(&fake.bus, &a20, &i8042);
	status |= port92_create(&fake.bus, &a20, &port92);
	status |= reset_port_create(&fake.bus, &reset_port);
	status |= pm_create(&fake.bus, &pm);
	status |= fw_cfg_create(&fake.bus, UINT64_C(64) << 20, 1, 1, &fw_cfg);
	status |= debug_ports_create(&fake.bus);
	assert_int_equal(status, OK);
}

static void reset_all(void)
{
	for (unsigned i = 0; i < 2; i++)
		lapic_reset(lapics[i]);
	ioapic_reset(ioapic), pic_reset(pic), pit_reset(pit), rtc_reset(rtc), uart_reset(uart), a20_reset(&a20);
	i8042_reset(i8042), port92_reset(port92), reset_port_reset(reset_port), pm_reset(pm), fw_cfg_reset(fw_cfg);
}

static void tear_down(void)
{
	assert_false(fake.locked);
	fake_bus_close(&fake);
}

static void fail_here(const char *what)
{
	for (unsigned i = steps < TRACE ? 0 : steps - TRACE + 1; i <= steps; i++)
		print_message("%u: kind %u size %u where %lx value %lx\n", i, trace[i % TRACE].kind,
			      trace[i % TRACE].size, (unsigned long)trace[i % TRACE].where,
			      (unsigned long)trace[i % TRACE].value);
	fail_msg("%s, seed %lu, step %u", what, (unsigned long)seed, steps);
}

/* What lapic_pending() must be, from the registers as the guest reads them. */
static void check_deliverable(struct lapic *lapic)
{
	int top = -1, in_service = -1, pending;
	unsigned class;

	lapic_update(lapic);
	pending = lapic_pending(lapic);
	for (int v = 0; v < 256; v++) {
		if (lapic->irr[v / 64] >> v % 64 & 1)
			top = v;
		if (lapic->isr[v / 64] >> v % 64 & 1)
			in_service = v;
	}
	class = lapic->tpr >> 4;
	if (in_service >> 4 > (int)class)
		class = (unsigned)in_service >> 4;
	if (pending == LAPIC_EXTINT ? !lapic->lint[0] : pending != (top >= 0 && top >> 4 > (int)class ? top : -1))
		fail_here("the deliverable vector does not follow from IRR, ISR and TPR");
	if (pending >= 0 && pending < 16)
		fail_here("an illegal vector is deliverable");
}

static uint16_t random_port(void)
{
	static const uint16_t ports[] = { 0x20,  0x21, 0xa0, 0xa1,  0x4d0, 0x4d1, 0x40, 0x41,  0x42,
					  0x43,  0x61, 0x60, 0x64,  0x70,  0x71,  0x92, 0xcf8, 0xcf9,
					  0xcfc, 0xe9, 0xf4, 0x510, 0x511, 0x3f8, 0x600 };
	uint64_t word = random_word();
	uint16_t port = ports[word % (sizeof(ports) / sizeof(ports[0]))];

	if (word >> 32 & 1 && (port == 0x3f8 || port == 0x600))
		return port + (word >> 33) % 16;
	return word >> 60 ? port : (uint16_t)random_word();
}

static void step(void)
{
	uint64_t word = random_word(), value = random_value(), result;
	unsigned kind = word % 16, size = 1u << (word >> 8) % 3, lapic = word >> 16 & 1;
	uint64_t where = kind < 9 ? random_port() : kind < 12 ? random_word() % 0x1000 : random_word() % 0x100;

	if (kind >= 9 && kind < 12 && word >> 17 & 3)
		where &= 0x3f0;
	trace[steps % TRACE].kind = kind, trace[steps % TRACE].size = size;
	trace[steps % TRACE].where = where, trace[steps % TRACE].value = value;
	if (kind < 3) {
		if (port_read(&fake.bus, (uint16_t)where, size) & ~(UINT32_MAX >> (32 - 8 * size)))
			fail_here("a read is wider than asked for");
	} else if (kind < 9) {
		port_write(&fake.bus, (uint16_t)where, size, (uint32_t)value);
	} else if (kind == 9) {
		lapic_mmio_ops.read(lapics[lapic], where, size);
		ioapic_ops->read(ioapic, where, size);
	} else if (kind == 10) {
		lapic_mmio_ops.write(lapics[lapic], where, size, value);
	} else if (kind == 11) {
		ioapic_ops->write(ioapic, where & 0x10, 4, value);
	} else if (kind == 12) {
		(void)!lapic_msr_read(lapics[lapic], 0x800 + (uint32_t)where, &result);
		(void)!lapic_msr_write(lapics[lapic], 0x800 + (uint32_t)where, value);
		(void)!lapic_msr_write(lapics[lapic], 0x6e0, tsc(NULL) + value % 100000);
		if ((word >> 20) % 64 == 0)
			(void)!lapic_msr_write(lapics[lapic], 0x1b, 0xfee00000 | (value & 0xc00));
	} else if (kind == 13) {
		uart_input(uart, (const uint8_t *)&value, value % 9);
		irq_router_set(&router, where % 32, value & 1);
		apic_bus_msi(&apic_bus, value, (uint32_t)word >> 8);
	} else if (kind == 14) {
		fake.time += value % 100000000;
		timer_run(&fake.bus.timers, fake.time);
		lapic_timer_run(lapics[0], fake.time);
		lapic_timer_run(lapics[1], fake.time);
	} else if (word >> 20 & 1) {
		int pending = lapic_pending(lapics[lapic]);

		if (pending == LAPIC_EXTINT)
			pic_acknowledge(pic);
		else if (pending >= 0)
			lapic_accept(lapics[lapic], (uint8_t)pending);
	} else if ((word >> 21) % 1024 == 0) {
		reset_all();
	}
	check_deliverable(lapics[0]);
	check_deliverable(lapics[1]);
}

static void any_sequence_is_survived(void **state)
{
	const char *text = getenv("DEV_FUZZ_SEED");

	for (seed = text ? strtoull(text, NULL, 0) : 1;; seed++) {
		state_word = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
		build();
		for (steps = 0; steps < STEPS; steps++) {
			step();
			if (steps % 5000 == 4999)
				reset_all();
		}
		tear_down();
		if (text || seed == 4)
			break;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(any_sequence_is_survived) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
