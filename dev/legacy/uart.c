/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A (National PC16550D data sheet, section 8) with a terminal attached that is always ready.
 *
 * Sent bytes reach the console at once, so the transmitter is always empty and its interrupt comes
 * back right after each write. Received bytes wait in a ring of ours and enter the receiver's FIFO as the guest
 * makes room, so a paste is never overrun; only loopback can overrun.
 *
 * The interrupt line is the function of the state that update_line() computes; every change of state ends there.
 */
#include <linux/serial_reg.h>

#include "dev/legacy/uart_internal.h"

#define IER_MASK 0x0fu
#define MCR_MASK 0x1fu
#define IIR_FIFO_ENABLED 0xc0u
#define MSR_ATTACHED (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)

static unsigned trigger_level(const struct uart *uart)
{
	static const uint8_t levels[4] = { 1, 4, 8, 14 };

	return uart->fcr & UART_FCR_ENABLE_FIFO ? levels[uart->fcr >> 6] : 1;
}

/* The identification of the most urgent interrupt, UART_IIR_NO_INT for none. Data sheet table 4. */
static uint8_t interrupt_identity(const struct uart *uart)
{
	if (uart->ier & UART_IER_RLSI && uart->lsr_errors)
		return UART_IIR_RLSI;
	if (uart->ier & UART_IER_RDI && uart->fifo_count >= trigger_level(uart))
		return UART_IIR_RDI;
	if (uart->ier & UART_IER_RDI && uart->timeout)
		return UART_IIR_RX_TIMEOUT;
	if (uart->ier & UART_IER_THRI && uart->transmit_event)
		return UART_IIR_THRI;
	return uart->ier & UART_IER_MSI && uart->msr & UART_MSR_ANY_DELTA ? UART_IIR_MSI : UART_IIR_NO_INT;
}

/* OUT2 gates the line on a PC; in loopback the pin is inactive. */
static void update_line(struct uart *uart)
{
	bool gate = (uart->mcr & (UART_MCR_OUT2 | UART_MCR_LOOP)) == UART_MCR_OUT2;
	bool level = gate && interrupt_identity(uart) != UART_IIR_NO_INT;

	if (level == uart->level)
		return;
	uart->level = level;
	uart->bus->set_irq(uart->bus->context, uart->line, level);
}

static void timeout_fire(void *device, uint64_t now)
{
	struct uart *uart = device;

	uart->timeout = uart->fifo_count != 0;
	update_line(uart);
}

static void transmit(struct uart *uart, uint8_t value)
{
	uint8_t byte = value & (0xff >> (3 - (uart->lcr & UART_LCR_WLEN8)));

	uart->transmit_event = true;
	if (uart->mcr & UART_MCR_LOOP)
		uart_loop_back(uart, byte);
	else
		uart->bus->console_write(uart->bus->context, &byte, 1);
}

/* The modem's inputs as they stand now: the terminal's, or in loopback our own outputs. */
static uint8_t modem_inputs(const struct uart *uart)
{
	uint8_t mcr = uart->mcr;

	if (!(mcr & UART_MCR_LOOP))
		return MSR_ATTACHED;
	return (mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) | (mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
	       (mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) | (mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0);
}

/* Takes the inputs over and notes what changed; the ring indicator only when it falls. */
static void update_modem(struct uart *uart)
{
	uint8_t inputs = modem_inputs(uart);
	uint8_t changed = (uart->msr ^ inputs) & 0xf0;

	if (inputs & UART_MSR_RI)
		changed &= (uint8_t)~UART_MSR_RI;
	uart->msr = inputs | (uart->msr & UART_MSR_ANY_DELTA) | changed >> 4;
}

_Static_assert(UART_MSR_CTS >> 4 == UART_MSR_DCTS && UART_MSR_DSR >> 4 == UART_MSR_DDSR &&
		       UART_MSR_RI >> 4 == UART_MSR_TERI && UART_MSR_DCD >> 4 == UART_MSR_DDCD,
	       "deltas lie four bits below");

static void write_fifo_control(struct uart *uart, uint8_t value)
{
	bool toggled = (uart->fcr ^ value) & UART_FCR_ENABLE_FIFO;

	/* The other bits count only together with the enable bit; switching it empties both FIFOs. */
	uart->fcr = value & UART_FCR_ENABLE_FIFO ? value & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK) : 0;
	if (toggled || (value & UART_FCR_ENABLE_FIFO && value & UART_FCR_CLEAR_RCVR))
		uart->fifo_count = 0;
	if (toggled || (value & UART_FCR_ENABLE_FIFO && value & UART_FCR_CLEAR_XMIT))
		uart->transmit_event = true;
	(void)uart_refill(uart);
	uart_restart_timeout(uart);
}

static uint8_t read_register(struct uart *uart, unsigned index)
{
	bool latch = uart->lcr & UART_LCR_DLAB;
	uint8_t value;

	switch (index) {
	case UART_RX: return latch ? (uint8_t)uart->divisor : uart_read_receiver(uart);
	case UART_IER: return latch ? uart->divisor >> 8 : uart->ier;
	case UART_IIR:
		value = interrupt_identity(uart);
		if (value == UART_IIR_THRI)
			uart->transmit_event = false;
		return value | (uart->fcr & UART_FCR_ENABLE_FIFO ? IIR_FIFO_ENABLED : 0);
	case UART_LCR: return uart->lcr;
	case UART_MCR: return uart->mcr;
	case UART_LSR:
		value = uart->lsr_errors | UART_LSR_THRE | UART_LSR_TEMT | (uart->fifo_count ? UART_LSR_DR : 0);
		uart->lsr_errors = 0;
		return value;
	case UART_MSR:
		value = uart->msr;
		uart->msr &= (uint8_t)~UART_MSR_ANY_DELTA;
		return value;
	default: return uart->scratch;
	}
}

static void write_enable(struct uart *uart, uint8_t value)
{
	/* Enabling the transmitter's interrupt while it is empty raises it. */
	if (value & ~uart->ier & UART_IER_THRI)
		uart->transmit_event = true;
	uart->ier = value & IER_MASK;
	uart_restart_timeout(uart);
}

static void write_register(struct uart *uart, unsigned index, uint8_t value)
{
	bool latch = uart->lcr & UART_LCR_DLAB;

	switch (index) {
	case UART_TX:
		if (latch)
			uart->divisor = (uart->divisor & 0xff00) | value;
		else
			transmit(uart, value);
		break;
	case UART_IER:
		if (latch)
			uart->divisor = (uint16_t)((uart->divisor & 0xff) | value << 8);
		else
			write_enable(uart, value);
		break;
	case UART_FCR: write_fifo_control(uart, value); break;
	case UART_LCR: uart->lcr = value; break;
	case UART_MCR:
		uart->mcr = value & MCR_MASK;
		update_modem(uart);
		if (uart_refill(uart))
			uart_restart_timeout(uart);
		break;
	case UART_SCR: uart->scratch = value; break;
	default: /* LSR and MSR are read only */ break;
	}
}

static uint32_t uart_read(void *device, uint16_t port, unsigned size)
{
	struct uart *uart = device;
	uint8_t value = read_register(uart, (port - uart->base) & 7);

	update_line(uart);
	return value;
}

static void uart_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct uart *uart = device;

	write_register(uart, (port - uart->base) & 7, (uint8_t)value);
	update_line(uart);
}

static const struct port_ops uart_ops = { .widest = 1, .read = uart_read, .write = uart_write };

size_t uart_input(struct uart *uart, const uint8_t *bytes, size_t length)
{
	size_t taken = 0;

	while (taken < length && uart->ring_count < UART_RING_SIZE)
		uart->ring[(uart->ring_first + uart->ring_count++) & (UART_RING_SIZE - 1)] = bytes[taken++];
	if (uart_refill(uart))
		uart_restart_timeout(uart);
	update_line(uart);
	return taken;
}

void uart_reset(struct uart *uart)
{
	timer_cancel(&uart->bus->timers, &uart->timer);
	uart->ier = uart->fcr = uart->lcr = uart->mcr = uart->lsr_errors = uart->scratch = 0;
	uart->msr = MSR_ATTACHED;
	uart->divisor = 1;
	uart->transmit_event = uart->timeout = false;
	uart->fifo_first = uart->fifo_count = 0;
	(void)uart_refill(uart);
	update_line(uart);
}

enum status uart_create(struct bus *bus, uint16_t base, unsigned line, struct uart **out)
{
	struct uart *uart = device_alloc(bus, sizeof(*uart));

	if (!uart)
		return NO_MEMORY;
	uart->bus = bus;
	uart->base = base;
	uart->line = (uint8_t)line;
	uart->timer = (struct dev_timer){ .fire = timeout_fire, .device = uart };
	uart_reset(uart);
	TRY(port_register(bus, base, 8, &uart_ops, uart, "uart"));
	*out = uart;
	return OK;
}
