/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board: a PC as Linux and test kernels know it. PICs to LINT0 of the boot CPU's local
 * APIC, ISA lines to PICs and IOAPIC alike, one UART, and the small controllers.
 *
 * Devices are created, reset and destroyed here, and the wires between them drawn; what they see of the machine stands in bus.c.
 */
#include "vm/machine/board.h"

#include "arch/x86_64/host.h"
#include "vm/config/topology.h"
#include "vm/machine/parts.h"
#include "vm/vcpu/vcpu.h"

/* What the guest's clock shows at start when the host has none to ask: 2026-01-01 00:00:00 UTC. */
#define BOARD_EPOCH UINT64_C(1767225600)

/* ---- the processor as its local APIC sees it; the context is its place in the machine, empty while that is put together ---- */

static void cpu_kick(void *context)
{
	struct vcpu *vcpu = *(struct vcpu **)context;

	if (vcpu)
		vcpu_request(vcpu, REQUEST_EVENT);
}

static void cpu_nmi(void *context)
{
	struct vcpu *vcpu = *(struct vcpu **)context;

	if (vcpu)
		vcpu_send_nmi(vcpu);
}

static void cpu_init(void *context)
{
	vcpu_send_init(*(struct vcpu **)context);
}

static void cpu_sipi(void *context, uint8_t vector)
{
	vcpu_send_startup(*(struct vcpu **)context, vector);
}

static uint64_t cpu_tsc(void *context)
{
	const struct vcpu *vcpu = *(struct vcpu **)context;

	return vcpu ? rdtsc() - (uint64_t)(host_tsc_ahead() - vcpu->tsc_ahead) + vcpu->l1->tsc_offset : 0;
}

static const struct lapic_host lapic_host = {
	.kick = cpu_kick,
	.nmi = cpu_nmi,
	.init = cpu_init,
	.sipi = cpu_sipi,
	.tsc = cpu_tsc,
};

/* LINT0 of the boot CPU is the PICs' INTR. */
static void pic_output(void *context, bool level)
{
	struct board *b = context;

	if (b->lapic[0])
		lapic_set_lint(b->lapic[0], 0, level);
}

static enum status create_apics(struct machine *m)
{
	const struct topology t = topology_of(m->config);
	struct board *b = m->board;

	for (unsigned i = 0; i < m->vcpu_count; i++)
		TRY(lapic_create(&m->bus, &b->apic_bus, topology_apic_id(&t, i), i == 0, host_tsc_hz(), &lapic_host,
				 &m->vcpu[i], &b->lapic[i]));
	TRY(m->bus.map_mmio(m, gpa(LAPIC_DEFAULT_BASE), LAPIC_PAGE_SIZE, &lapic_mmio_ops, b->lapic[0], "local APIC"));
	b->apic_window = &b->window[b->windows - 1];
	TRY(ioapic_create(&m->bus, &b->apic_bus, (uint8_t)m->vcpu_count, &b->ioapic));
	b->irq.ioapic = b->ioapic;
	lapic_set_virtual_wire(b->lapic[0]);
	return OK;
}

static enum status create_devices(struct machine *m)
{
	struct board *b = m->board;
	struct bus *bus = &m->bus;
	const struct topology t = topology_of(m->config);
	uint64_t ram = pgm_ram_bytes(m->pgm), below = min_u64(ram, 4 * GIB - m->config->ram_hole);

	TRY(port_table_create(bus));
	TRY(board_open_mmio(m));
	a20_init(&b->a20, bus);
	TRY(pic_create(bus, pic_output, b, &b->pic));
	b->irq.pic = b->pic;
	TRY(create_apics(m));
	TRY(pci_create(bus, &b->pci));
	TRY(board_open_balloon(m));
	TRY(board_open_vmem(m));
	TRY(pit_create(bus, &b->pit));
	TRY(rtc_create(bus, BOARD_EPOCH, below, ram - below, &b->rtc));
	TRY(uart_create(bus, UART_COM1_BASE, UART_COM1_LINE, &b->uart));
	TRY(i8042_create(bus, &b->a20, &b->i8042));
	TRY(port92_create(bus, &b->a20, &b->port92));
	TRY(reset_port_create(bus, &b->reset_port));
	TRY(pm_create(bus, &b->pm));
	TRY(fw_cfg_create(bus, ram, (uint16_t)m->vcpu_count, (uint16_t)topology_ids(&t), &b->fw_cfg));
	return m->config->test_ports ? debug_ports_create(bus) : OK;
}

enum status board_create(struct machine *m)
{
	board_open_bus(m);
	m->board = heap_alloc(sizeof(*m->board));
	if (!m->board)
		return NO_MEMORY;
	m->board->machine = m;
	return create_devices(m);
}

void board_destroy(struct machine *m)
{
	bus_close(&m->bus);
	heap_free(m->board, sizeof(*m->board));
	m->board = NULL;
}

void board_reset(struct machine *m)
{
	struct board *b = m->board;

	a20_reset(&b->a20);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		lapic_reset(b->lapic[i]);
#define RESET(kind)                                                                                                    \
	if (b->kind)                                                                                                   \
		kind##_reset(b->kind);
	BOARD_DEVICES(RESET)
	lapic_set_virtual_wire(b->lapic[0]);
}

struct lapic *board_lapic(struct board *board, unsigned vcpu)
{
	return board->lapic[vcpu];
}

/* The PICs may have changed their mind since they told the APIC. */
static int ask_pics(struct board *board, struct lapic *lapic)
{
	int vector = -1;

	lock_acquire(&board->machine->lock);
	if (pic_pending(board->pic))
		vector = pic_acknowledge(board->pic);
	lock_release(&board->machine->lock);
	lapic_update(lapic);
	return vector;
}

static void pay_ticks(struct machine *m)
{
	HOLD(&m->lock);
	tick_pay(&m->bus);
}

int board_take_interrupt(struct board *board, struct lapic *lapic)
{
	int vector = lapic_pending(lapic);

	if (unlikely(vector == LAPIC_EXTINT))
		vector = ask_pics(board, lapic);
	else if (vector != LAPIC_NOTHING)
		lapic_accept(lapic, (uint8_t)vector);
	if (unlikely(__atomic_load_n(&board->machine->bus.ticks_owed, __ATOMIC_RELAXED)))
		pay_ticks(board->machine);
	return vector;
}

uint64_t board_wall_clock(struct board *board)
{
	return rtc_wall_clock(board->rtc);
}

void board_press_button(struct board *board)
{
	pm_power_button(board->pm);
}

size_t board_console_input(struct board *board, const uint8_t *bytes, size_t length)
{
	return uart_input(board->uart, bytes, length);
}
