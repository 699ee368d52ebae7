/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board: a PC as Linux and test kernels know it. PICs to LINT0 of the boot CPU's local
 * APIC, ISA lines to PICs and IOAPIC alike, one UART, and the small controllers.
 *
 * Devices are created and reset from one table; the wires between them are drawn here and nowhere else.
 */
#include "vm/machine/board.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "dev/legacy/a20.h"
#include "dev/debug_ports.h"
#include "dev/fw_cfg.h"
#include "dev/legacy/i8042.h"
#include "dev/irq.h"
#include "dev/apic/lapic.h"
#include "dev/legacy/pit.h"
#include "dev/pm.h"
#include "dev/tick.h"
#include "dev/legacy/port92.h"
#include "dev/legacy/reset_port.h"
#include "dev/legacy/rtc.h"
#include "dev/legacy/uart.h"
#include "vm/machine/console.h"
#include "vm/vcpu/vcpu.h"

struct mmio_window {
	const struct mmio_ops *ops;
	void *device;
	uint64_t base;
	struct machine *machine;
};

#define MAX_WINDOWS 8u
/* What the guest's clock shows at start when the host has none to ask: 2026-01-01 00:00:00 UTC. */
#define BOARD_EPOCH UINT64_C(1767225600)

struct board {
	struct machine *machine;
	struct a20 a20;
	struct irq_router irq;
	struct apic_bus apic_bus;
	struct lapic *lapic[MACHINE_MAX_VCPUS];
	struct uart *uart;
	struct pic *pic;
	struct pit *pit;
	struct ioapic *ioapic;
	struct rtc *rtc;
	struct i8042 *i8042;
	struct port92 *port92;
	struct reset_port *reset_port;
	struct pm *pm;
	struct fw_cfg *fw_cfg;
	struct debug_ports *debug_ports;
	struct mmio_window window[MAX_WINDOWS];
	unsigned windows;
	struct mmio_window *apic_window; /* of the boot vcpu's, and there is no other yet */
	handler_type mmio_type;
};

/* ---- the bus as devices see it ---- */

static uint64_t bus_now(void *context)
{
	return machine_now(context);
}

static enum irq_fate bus_set_irq(void *context, unsigned line, bool level)
{
	struct machine *m = context;

	return irq_router_set(&m->board->irq, line, level);
}

/* If its end is decided already, for a reason that came first, neither does anything. */
static void guest_reset(struct machine *m)
{
	bool again = m->config->on_reset == ON_RESET_RESTART;

	if (!again || machine_reset(m) != OK)
		machine_end(m, END_RESET, 0, NULL);
}

static void bus_event(void *context, enum machine_event event, uint32_t value)
{
	struct machine *m = context;

	switch (event) {
	case MACHINE_RESET: guest_reset(m); break;
	case MACHINE_POWEROFF: machine_end(m, END_POWEROFF, 0, NULL); break;
	case MACHINE_EXIT_PORT: machine_end(m, END_EXIT_PORT, value, NULL); break;
	case MACHINE_FAST_TIMER:
		if (!m->timer_complaints++)
			log_line(LOG_WARNING "vm %s: a timer is to tick every %u ns: it does every %u ns", m->name,
				 value, (unsigned)TIMER_MINIMUM_PERIOD);
		break;
	case MACHINE_A20:
		for (unsigned i = 0; i < m->vcpu_count; i++)
			if (m->vcpu[i])
				vcpu_set_a20(m->vcpu[i], value != 0);
		break;
	}
}

static void bus_console_write(void *context, const uint8_t *bytes, size_t length)
{
	struct machine *m = context;

	console_ring_write(m->console, bytes, length);
}

static void bus_debug_write(void *context, uint8_t byte)
{
	bus_console_write(context, &byte, 1);
}

/*
 * The devices' lock is the machine's, and it is taken here, below every lock of PGM. A device's own access
 * (DMA) never reaches another device: it reads all ones.
 */
static enum status mmio_access(void *user, struct pgm_access *access)
{
	struct mmio_window *w = user;
	uint64_t offset = access->where.v - w->base;

	if (access->origin != ORIGIN_GUEST) {
		access->value = ~UINT64_C(0);
		return OK;
	}
	lock_acquire(&w->machine->lock);
	if (access->write)
		w->ops->write(w->device, offset, access->size, access->value & byte_mask(access->size));
	else
		access->value = w->ops->read(w->device, offset, access->size);
	machine_look_at_timers(w->machine);
	lock_release(&w->machine->lock);
	return OK;
}

static enum status bus_map_mmio(void *context, gpa_t where, uint64_t size, const struct mmio_ops *ops, void *device,
				const char *name)
{
	struct machine *m = context;
	struct board *b = m->board;
	struct mmio_window *w;

	if (b->windows == MAX_WINDOWS)
		return LIMIT;
	w = &b->window[b->windows];
	*w = (struct mmio_window){ .ops = ops, .device = device, .base = where.v, .machine = m };
	b->windows++;
	return pgm_handler_register(m->pgm, b->mmio_type, where, gpa(where.v + size - 1), w, name);
}

static enum status bus_memory_read(void *context, gpa_t from, void *to, size_t length)
{
	return pgm_read(((struct machine *)context)->pgm, from, to, length, ORIGIN_DEVICE, NULL);
}

static enum status bus_memory_write(void *context, gpa_t to, const void *from, size_t length)
{
	return pgm_write(((struct machine *)context)->pgm, to, from, length, ORIGIN_DEVICE, NULL);
}

/* ---- the processor as its local APIC sees it ---- */

static void cpu_kick(void *context)
{
	vcpu_request(context, REQUEST_EVENT);
}

static void cpu_nmi(void *context)
{
	((struct vcpu *)context)->nmi_pending = true;
	vcpu_request(context, REQUEST_EVENT);
}

static void cpu_init(void *context)
{
	(void)context; /* one vcpu per machine: nobody can send it one but itself, and that is ignored */
}

static void cpu_sipi(void *context, uint8_t vector)
{
	(void)context;
	(void)vector;
}

static uint64_t cpu_tsc(void *context)
{
	struct vcpu *vcpu = context;

	return rdtsc() + vcpu->hv->tsc_offset;
}

/* The vcpus don't exist yet when their APICs are made: the APIC's context is its slot. */
struct lapic_slot {
	struct machine *machine;
	unsigned id;
};

static struct vcpu *slot_vcpu(void *context)
{
	struct lapic_slot *slot = context;

	return slot->machine->vcpu[slot->id];
}

static void slot_kick(void *context)
{
	if (slot_vcpu(context))
		cpu_kick(slot_vcpu(context));
}

static void slot_nmi(void *context)
{
	if (slot_vcpu(context))
		cpu_nmi(slot_vcpu(context));
}

static void slot_init(void *context)
{
	cpu_init(context);
}

static void slot_sipi(void *context, uint8_t vector)
{
	cpu_sipi(context, vector);
}

static uint64_t slot_tsc(void *context)
{
	return slot_vcpu(context) ? cpu_tsc(slot_vcpu(context)) : 0;
}

static const struct lapic_host lapic_host = {
	.kick = slot_kick,
	.nmi = slot_nmi,
	.init = slot_init,
	.sipi = slot_sipi,
	.tsc = slot_tsc,
};

static struct lapic_slot lapic_slots[CONFIG_MAX_MACHINES][MACHINE_MAX_VCPUS];

/* LINT0 of the boot CPU is the PICs' INTR. */
static void pic_output(void *context, bool level)
{
	struct board *b = context;

	if (b->lapic[0])
		lapic_set_lint(b->lapic[0], 0, level);
}

static enum status create_apics(struct machine *m)
{
	struct board *b = m->board;
	enum status status = OK;

	for (unsigned i = 0; i < m->vcpu_count && status == OK; i++) {
		struct lapic_slot *slot = &lapic_slots[m->index][i];

		*slot = (struct lapic_slot){ .machine = m, .id = i };
		status = lapic_create(&m->bus, &b->apic_bus, i, i == 0, host_tsc_hz(), &lapic_host, slot, &b->lapic[i]);
	}
	if (status == OK)
		status = bus_map_mmio(m, gpa(LAPIC_DEFAULT_BASE), LAPIC_PAGE_SIZE, &lapic_mmio_ops, b->lapic[0],
				      "local APIC");
	b->apic_window = &b->window[b->windows - 1];
	if (status == OK)
		status = ioapic_create(&m->bus, &b->apic_bus, (uint8_t)m->vcpu_count, &b->ioapic);
	b->irq.ioapic = b->ioapic;
	if (status == OK)
		lapic_set_virtual_wire(b->lapic[0]);
	return status;
}

static enum status create_devices(struct machine *m)
{
	struct board *b = m->board;
	struct bus *bus = &m->bus;
	uint64_t ram = pgm_ram_bytes(m->pgm), below = min_u64(ram, 4 * GIB - m->config->ram_hole);
	enum status status =
		pgm_handler_type_register(m->pgm, HANDLER_KIND_MMIO, 0, mmio_access, "device", &b->mmio_type);

	a20_init(&b->a20, bus);
	if (status == OK)
		status = pic_create(bus, pic_output, b, &b->pic);
	b->irq.pic = b->pic;
	if (status == OK)
		status = create_apics(m);
	if (status == OK)
		status = pit_create(bus, &b->pit);
	if (status == OK)
		status = rtc_create(bus, BOARD_EPOCH, below, ram - below, &b->rtc);
	if (status == OK)
		status = uart_create(bus, UART_COM1_BASE, UART_COM1_LINE, &b->uart);
	if (status == OK)
		status = i8042_create(bus, &b->a20, &b->i8042);
	if (status == OK)
		status = port92_create(bus, &b->a20, &b->port92);
	if (status == OK)
		status = reset_port_create(bus, &b->reset_port);
	if (status == OK)
		status = pm_create(bus, &b->pm);
	if (status == OK)
		status = fw_cfg_create(bus, ram, (uint16_t)m->vcpu_count, MACHINE_MAX_VCPUS, &b->fw_cfg);
	if (status == OK && m->config->test_ports)
		status = debug_ports_create(bus, &b->debug_ports);
	return status;
}

enum status board_create(struct machine *m)
{
	struct bus *bus = &m->bus;
	enum status status;

	*bus = (struct bus){ .context = m,
			     .now = bus_now,
			     .set_irq = bus_set_irq,
			     .event = bus_event,
			     .console_write = bus_console_write,
			     .debug_write = bus_debug_write,
			     .map_mmio = bus_map_mmio,
			     .memory_read = bus_memory_read,
			     .memory_write = bus_memory_write };
	m->board = heap_alloc(sizeof(*m->board));
	if (!m->board)
		return NO_MEMORY;
	m->board->machine = m;
	status = port_table_create(bus);
	if (status == OK)
		status = create_devices(m);
	return status;
}

#define DESTROY(kind)                                                                                                  \
	do {                                                                                                           \
		if (b->kind)                                                                                           \
			kind##_destroy(b->kind);                                                                       \
	} while (0)

void board_destroy(struct machine *m)
{
	struct board *b = m->board;

	DESTROY(debug_ports);
	DESTROY(fw_cfg);
	DESTROY(pm);
	DESTROY(reset_port);
	DESTROY(port92);
	DESTROY(i8042);
	DESTROY(uart);
	DESTROY(rtc);
	DESTROY(pit);
	DESTROY(ioapic);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		if (b->lapic[i])
			lapic_destroy(b->lapic[i]);
	DESTROY(pic);
	if (m->bus.ports)
		port_table_destroy(&m->bus);
	heap_free(b, sizeof(*b));
	m->board = NULL;
}

#define RESET(kind)                                                                                                    \
	do {                                                                                                           \
		if (b->kind)                                                                                           \
			kind##_reset(b->kind);                                                                         \
	} while (0)

void board_reset(struct machine *m)
{
	struct board *b = m->board;

	a20_reset(&b->a20);
	RESET(pic);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		lapic_reset(b->lapic[i]);
	RESET(ioapic);
	RESET(pit);
	RESET(rtc);
	RESET(uart);
	RESET(i8042);
	RESET(port92);
	RESET(reset_port);
	RESET(pm);
	RESET(fw_cfg);
	RESET(debug_ports);
	lapic_set_virtual_wire(b->lapic[0]);
}

enum status board_place_apic(struct machine *m)
{
	struct mmio_window *w = m->board->apic_window;
	uint64_t base = m->board->lapic[0]->base & BITS(51, 12);
	enum status status;

	if (base == w->base)
		return OK;
	status = pgm_handler_modify(m->pgm, gpa(w->base), gpa(base), gpa(base + LAPIC_PAGE_SIZE - 1));
	if (status == OK)
		w->base = base;
	return status;
}

struct lapic *board_lapic(struct board *board, unsigned vcpu)
{
	return board->lapic[vcpu];
}

bool board_interrupt_pending(struct board *board, struct lapic *lapic)
{
	(void)board;
	return lapic_pending(lapic) != LAPIC_NOTHING;
}

int board_take_interrupt(struct board *board, struct lapic *lapic)
{
	int vector = lapic_pending(lapic);

	if (vector == LAPIC_EXTINT)
		vector = pic_acknowledge(board->pic);
	else if (vector != LAPIC_NOTHING)
		lapic_accept(lapic, (uint8_t)vector);
	if (unlikely(board->machine->bus.ticks_owed))
		tick_pay(&board->machine->bus);
	return vector;
}

size_t board_console_input(struct board *board, const uint8_t *bytes, size_t length)
{
	return uart_input(board->uart, bytes, length);
}
