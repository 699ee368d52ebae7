/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bus as a machine's devices see it: clock, wires, consoles, memory, windows of MMIO, and the events that concern the machine as
 * a whole. Called by devices, so under the machine's lock, but for MMIO, which takes it.
 */
#include "arch/x86_64/log.h"
#include "dev/clock.h"
#include "vm/machine/console.h"
#include "vm/machine/parts.h"
#include "vm/vcpu/enter.h"

static uint64_t bus_now(void *context)
{
	return machine_now(context);
}

static void bus_lock(void *context)
{
	lock_acquire(&((struct machine *)context)->lock);
}

static void bus_unlock(void *context)
{
	lock_release(&((struct machine *)context)->lock);
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
	case MACHINE_ALARM: pm_alarm(m->board->pm); break;
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

static void by_ops(const struct mmio_window *w, void *device, struct pgm_access *access)
{
	uint64_t offset = access->where.v - w->base;

	if (access->write)
		w->ops->write(device, offset, access->size, access->value & byte_mask(access->size));
	else
		access->value = w->ops->read(device, offset, access->size);
}

/*
 * Behind the one page of local APICs each processor finds its own, if that is where its own IA32_APIC_BASE has it: the page is where
 * the boot processor's is. It is the vcpu's alone: no lock.
 */
static void apic_access(const struct mmio_window *w, struct pgm_access *access)
{
	struct vcpu *vcpu = vcpu_current();

	if ((vcpu->lapic->base & BITS(51, 12)) != w->base) {
		access->value = ~UINT64_C(0);
		return;
	}
	by_ops(w, vcpu->lapic, access);
	vcpu_look_at_timer(vcpu);
}

/*
 * The devices' lock is the machine's, and it is taken here, below every lock of PGM. A device's own access
 * (DMA) never reaches another device: it reads all ones.
 */
static enum status mmio_access(void *user, struct pgm_access *access)
{
	const struct mmio_window *w = user;
	struct machine *m = w->context;

	if (access->origin != ORIGIN_GUEST) {
		access->value = ~UINT64_C(0);
	} else if (w == m->board->apic_window) {
		apic_access(w, access);
	} else {
		HOLD(&m->lock);
		by_ops(w, w->device, access);
		machine_look_at_timers(m);
	}
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
	*w = (struct mmio_window){ .ops = ops, .device = device, .base = where.v, .context = m };
	b->windows++;
	return pgm_handler_register(m->pgm, b->mmio_type, where, gpa(where.v + size - 1), w, name);
}

#define MSI_ADDRESS UINT64_C(0xfee) /* bits 31:20; Intel SDM vol. 3 section 11.11.1 */

static enum irq_fate bus_msi(void *context, uint64_t address, uint32_t data)
{
	struct machine *m = context;

	return address >> 20 == MSI_ADDRESS ? apic_bus_msi(&m->board->apic_bus, address, data) : IRQ_UNHEARD;
}

static enum status bus_memory_read(void *context, gpa_t from, void *to, size_t length)
{
	return pgm_read(((struct machine *)context)->pgm, from, to, length, ORIGIN_DEVICE, NULL);
}

static enum status bus_memory_write(void *context, gpa_t to, const void *from, size_t length)
{
	return pgm_write(((struct machine *)context)->pgm, to, from, length, ORIGIN_DEVICE, NULL);
}

void board_open_bus(struct machine *m)
{
	m->bus = (struct bus){ .context = m,
			       .now = bus_now,
			       .lock = bus_lock,
			       .unlock = bus_unlock,
			       .set_irq = bus_set_irq,
			       .event = bus_event,
			       .console_write = bus_console_write,
			       .debug_write = bus_debug_write,
			       .map_mmio = bus_map_mmio,
			       .window_open = bus_window_open,
			       .windows_moved = bus_windows_moved,
			       .msi = bus_msi,
			       .memory_read = bus_memory_read,
			       .memory_write = bus_memory_write };
}

enum status board_open_mmio(struct machine *m)
{
	return pgm_handler_type_register(m->pgm, HANDLER_KIND_MMIO, 0, mmio_access, "device", &m->board->mmio_type);
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
