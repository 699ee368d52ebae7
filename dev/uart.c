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

#include "dev/uart.h"
#include "lib/bits.h"
#include "lib/memory.h"

#define FIFO_SIZE 16u
#define RING_SIZE 1024u
#define CLOCK_HZ 1843200u /* the divisor counts sixteenths: 115200 baud at divisor 1 */
#define BITS_PER_CHARACTER 10u
#define IER_MASK 0x0fu
#define MCR_MASK 0x1fu
#define IIR_FIFO_ENABLED 0xc0u
#define MSR_ATTACHED (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)

_Static_assert(!(RING_SIZE & (RING_SIZE - 1)), "the ring's indices wrap by masking");

struct uart {
	struct bus *bus;
	uint16_t base;
	uint8_t line;
	bool level;          /* what the interrupt line was last set to */
	uint8_t ier, fcr, lcr, mcr, lsr_errors, msr, scratch;
	uint16_t divisor;
	bool transmit_event; /* THRE interrupt is due */
	bool timeout;        /* characters have waited for four character times */
	uint8_t fifo[FIFO_SIZE], fifo_first, fifo_count;
	uint32_t ring_first, ring_count;
	uint8_t ring[RING_SIZE];
	struct dev_timer timer;
};

static unsigned fifo_depth(const struct uart *uart)
{
	return uart->fcr & UART_FCR_ENABLE_FIFO ? FIFO_SIZE : 1;
}

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
	if (uart->ier & UART_IER_MSI && uart->msr & UART_MSR_ANY_DELTA)
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
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

/* Restarts the character timeout: four character times after the last movement of a FIFO that isn't empty. */
static void restart_timeout(struct uart *uart)
{
	uint64_t divisor = uart->divisor ? uart->divisor : 1;
	uint64_t wait = 4 * BITS_PER_CHARACTER * divisor * 16 * UINT64_C(1000000000) / CLOCK_HZ;

	uart->timeout = false;
	if (uart->fcr & UART_FCR_ENABLE_FIFO && uart->fifo_count && uart->ier & UART_IER_RDI)
		timer_arm(&uart->bus->timers, &uart->timer, uart->bus->now(uart->bus->context) + wait);
	else
		timer_cancel(&uart->bus->timers, &uart->timer);
}

static void timeout_fire(void *device, uint64_t now)
{
	struct uart *uart = device;

	uart->timeout = uart->fifo_count != 0;
	update_line(uart);
}

static void fifo_push(struct uart *uart, uint8_t byte)
{
	uart->fifo[(uart->fifo_first + uart->fifo_count++) % FIFO_SIZE] = byte;
}

/* Moves waiting input into the receiver as far as there is room; true if anything moved. */
static bool refill(struct uart *uart)
{
	bool moved = false;

	if (uart->mcr & UART_MCR_LOOP)
		return false;
	while (uart->ring_count && uart->fifo_count < fifo_depth(uart)) {
		fifo_push(uart, uart->ring[uart->ring_first]);
		uart->ring_first = (uart->ring_first + 1) & (RING_SIZE - 1);
		uart->ring_count--;
		moved = true;
	}
	return moved;
}

static uint8_t read_receiver(struct uart *uart)
{
	uint8_t byte = 0;

	if (uart->fifo_count) {
		byte = uart->fifo[uart->fifo_first];
		uart->fifo_first = (uart->fifo_first + 1) % FIFO_SIZE;
		uart->fifo_count--;
	}
	(void)refill(uart);
	restart_timeout(uart);
	return byte;
}

static void loop_back(struct uart *uart, uint8_t byte)
{
	if (uart->fifo_count < fifo_depth(uart)) {
		fifo_push(uart, byte);
	} else {
		uart->lsr_errors |= UART_LSR_OE;
		if (fifo_depth(uart) == 1) /* without FIFOs the new character replaces the old one */
			uart->fifo[uart->fifo_first] = byte;
	}
	restart_timeout(uart);
}

static void transmit(struct uart *uart, uint8_t value)
{
	uint8_t byte = value & (0xff >> (3 - (uart->lcr & UART_LCR_WLEN8)));

	uart->transmit_event = true;
	if (uart->mcr & UART_MCR_LOOP)
		loop_back(uart, byte);
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
	       UART_MSR_RI >> 4 == UART_MSR_TERI && UART_MSR_DCD >> 4 == UART_MSR_DDCD, "deltas lie four bits below");

static void write_fifo_control(struct uart *uart, uint8_t value)
{
	bool toggled = (uart->fcr ^ value) & UART_FCR_ENABLE_FIFO;

	/* The other bits count only together with the enable bit; switching it empties both FIFOs. */
	uart->fcr = value & UART_FCR_ENABLE_FIFO ? value & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK) : 0;
	if (toggled || (value & UART_FCR_ENABLE_FIFO && value & UART_FCR_CLEAR_RCVR))
		uart->fifo_count = 0;
	if (toggled || (value & UART_FCR_ENABLE_FIFO && value & UART_FCR_CLEAR_XMIT))
		uart->transmit_event = true;
	(void)refill(uart);
	restart_timeout(uart);
}

static uint8_t read_register(struct uart *uart, unsigned index)
{
	bool latch = uart->lcr & UART_LCR_DLAB;
	uint8_t value;

	switch (index) {
	case UART_RX:
		return latch ? (uint8_t)uart->divisor : read_receiver(uart);
	case UART_IER:
		return latch ? uart->divisor >> 8 : uart->ier;
	case UART_IIR:
		value = interrupt_identity(uart);
		if (value == UART_IIR_THRI)
			uart->transmit_event = false;
		return value | (uart->fcr & UART_FCR_ENABLE_FIFO ? IIR_FIFO_ENABLED : 0);
	case UART_LCR:
		return uart->lcr;
	case UART_MCR:
		return uart->mcr;
	case UART_LSR:
		value = uart->lsr_errors | UART_LSR_THRE | UART_LSR_TEMT | (uart->fifo_count ? UART_LSR_DR : 0);
		uart->lsr_errors = 0;
		return value;
	case UART_MSR:
		value = uart->msr;
		uart->msr &= (uint8_t)~UART_MSR_ANY_DELTA;
		return value;
	default:
		return uart->scratch;
	}
}

static void write_enable(struct uart *uart, uint8_t value)
{
	/* Enabling the transmitter's interrupt while it is empty raises it. */
	if (value & ~uart->ier & UART_IER_THRI)
		uart->transmit_event = true;
	uart->ier = value & IER_MASK;
	restart_timeout(uart);
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
	case UART_FCR:
		write_fifo_control(uart, value);
		break;
	case UART_LCR:
		uart->lcr = value;
		break;
	case UART_MCR:
		uart->mcr = value & MCR_MASK;
		update_modem(uart);
		if (refill(uart))
			restart_timeout(uart);
		break;
	case UART_SCR:
		uart->scratch = value;
		break;
	default: /* LSR and MSR are read only */
		break;
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

	while (taken < length && uart->ring_count < RING_SIZE)
		uart->ring[(uart->ring_first + uart->ring_count++) & (RING_SIZE - 1)] = bytes[taken++];
	if (refill(uart))
		restart_timeout(uart);
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
	(void)refill(uart);
	update_line(uart);
}

enum status uart_create(struct bus *bus, uint16_t base, unsigned line, struct uart **out)
{
	struct uart *uart = heap_alloc(sizeof(*uart));
	enum status status;

	if (!uart)
		return NO_MEMORY;
	uart->bus = bus;
	uart->base = base;
	uart->line = (uint8_t)line;
	uart->timer = (struct dev_timer){ .fire = timeout_fire, .device = uart };
	uart_reset(uart);
	status = port_register(bus, base, 8, &uart_ops, uart, "uart");
	if (status != OK) {
		heap_free(uart, sizeof(*uart));
		return status;
	}
	*out = uart;
	return OK;
}

void uart_destroy(struct uart *uart)
{
	if (!uart)
		return;
	timer_cancel(&uart->bus->timers, &uart->timer);
	port_unregister(uart->bus, uart->base, 8, uart);
	heap_free(uart, sizeof(*uart));
}
