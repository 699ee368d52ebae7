/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial console: a 16550 at a port or in memory, polled. A port that isn't there reads all ones: its
 * scratch register doesn't hold a value. One that stops sending is given up after a few bounded waits.
 *
 * At 115200 baud the receiver's 16 bytes last 1.4 ms. So what has come is put into a ring at every chance: while sending
 * waits for room, too, and between slices of guests (serial_listen(), at least each CONSOLE_PATIENCE_NS).
 */
#include <linux/serial_reg.h>
#include <string.h>

#include "arch/x86_64/acpi.h"
#include "arch/x86_64/console.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/paging.h"

#define FIFO_DEPTH 16u
#define SEND_SPINS 200000u /* far longer than 16 bytes at 115200 */
#define STUCK_LIMIT 4u
#define RING_SIZE 4096u
#define RECEIVE_STEP 64u /* more than a FIFO at once is a line that never rests */

static struct uart {
	bool present, fifo;
	uint16_t port; /* 0: in memory */
	volatile uint8_t *base;
	unsigned stride; /* bytes between registers in memory */
	unsigned room;   /* bytes that the FIFO still takes */
	unsigned stuck;
} serial;

static struct {
	uint8_t bytes[RING_SIZE]; /* received; indices run free */
	unsigned head, tail;
} ring;

_Static_assert((RING_SIZE & (RING_SIZE - 1)) == 0, "free-running indices need a power of two");

static uint8_t get(unsigned r)
{
	if (serial.port)
		return in8((uint16_t)(serial.port + r));
	return serial.stride == 4 ? (uint8_t)((volatile uint32_t *)serial.base)[r] : serial.base[r * serial.stride];
}

static void set(unsigned r, uint8_t value)
{
	if (serial.port)
		out8((uint16_t)(serial.port + r), value);
	else if (serial.stride == 4)
		((volatile uint32_t *)serial.base)[r] = value;
	else
		serial.base[r * serial.stride] = value;
}

static bool holds(uint8_t value)
{
	set(UART_SCR, value);
	return get(UART_SCR) == value;
}

/* set_speed: 115200 8n1 by the PC's clock of 1.8432 MHz; else the firmware's setting stays. */
static void start(bool set_speed)
{
	serial.present = holds(0x5a) && holds(0xa5);
	if (!serial.present)
		return;
	set(UART_IER, 0);
	if (set_speed) {
		set(UART_LCR, UART_LCR_DLAB);
		set(UART_DLL, 1);
		set(UART_DLM, 0);
		set(UART_LCR, UART_LCR_WLEN8);
	}
	set(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
	serial.fifo = (get(UART_IIR) & 0xc0) == 0xc0;
	set(UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
}

void serial_init_port(uint16_t port)
{
	serial = (struct uart){ .port = port };
	start(true);
}

/* The table may name a port that isn't there; the one that has spoken until now, if any, then goes on. */
static void change_to(struct uart uart, bool set_speed)
{
	struct uart old = serial;

	if (old.present && uart.port && old.port == uart.port)
		return;
	serial = uart;
	start(set_speed);
	if (serial.present)
		return;
	serial = old;
	log_line(LOG_WARNING "serial: ACPI's table SPCR names a port that doesn't answer; %s",
		 old.present ? "COM1 goes on" : "there is none");
}

/* Serial port console redirection table, revision 2: header, type, 3 reserved bytes, address at 40, speed at 58. */
#define SPCR_TYPE 36u
#define SPCR_ADDRESS 40u
#define SPCR_SPEED 58u
#define SPCR_SPEED_115200 7u
#define SPCR_16550 0u
#define SPCR_16550_SUBSET 1u
#define SPCR_16550_ADDRESSED 0x12u
#define ACCESS_32_BITS 3u

void serial_init_acpi(void)
{
	const uint8_t *spcr = host_acpi_table("SPCR");
	struct acpi_address address;
	uint8_t type;

	if (!spcr || ((const struct acpi_header *)spcr)->length <= SPCR_SPEED)
		return;
	type = spcr[SPCR_TYPE];
	memcpy(&address, spcr + SPCR_ADDRESS, sizeof(address));
	if ((type != SPCR_16550 && type != SPCR_16550_SUBSET && type != SPCR_16550_ADDRESSED) || !address.address)
		return;
	if (address.space == ACPI_SPACE_IO && address.address <= UINT16_MAX - 8) {
		change_to((struct uart){ .port = (uint16_t)address.address }, true);
	} else if (address.space == ACPI_SPACE_MEMORY) {
		struct uart uart = { .stride = address.access == ACCESS_32_BITS || address.bits == 32 ? 4 : 1 };

		uart.base = host_map_device(hpa(address.address), 8 * (uint64_t)uart.stride, MEMORY_TYPE_UC);
		if (uart.base)
			change_to(uart, spcr[SPCR_SPEED] == SPCR_SPEED_115200 && type != SPCR_16550_ADDRESSED);
	}
}

bool serial_present(void)
{
	return serial.present;
}

/* Takes what has come; returns the line status as it was last read. A full ring leaves the rest to the FIFO. */
static uint8_t receive(void)
{
	uint8_t status = get(UART_LSR);

	for (unsigned i = 0; i < RECEIVE_STEP && status != 0xff && (status & UART_LSR_DR); i++) {
		if (ring.head - ring.tail == RING_SIZE)
			break;
		ring.bytes[ring.head++ % RING_SIZE] = get(UART_RX);
		status = get(UART_LSR);
	}
	return status;
}

static void send(uint8_t byte)
{
	for (unsigned i = 0; !serial.room && i < SEND_SPINS; i++) {
		if (receive() & UART_LSR_THRE)
			serial.room = serial.fifo ? FIFO_DEPTH : 1;
		else
			__builtin_ia32_pause();
	}
	if (!serial.room) {
		serial.present = ++serial.stuck < STUCK_LIMIT;
		return;
	}
	serial.stuck = 0;
	serial.room--;
	set(UART_TX, byte);
}

void serial_write(const char *bytes, size_t length)
{
	for (size_t i = 0; i < length && serial.present; i++)
		send((uint8_t)bytes[i]);
}

void serial_flush(void)
{
	for (unsigned i = 0; i < SEND_SPINS && serial.present && !(get(UART_LSR) & UART_LSR_TEMT); i++)
		__builtin_ia32_pause();
}

void serial_listen(void)
{
	if (serial.present)
		(void)receive();
}

int serial_read(void)
{
	serial_listen();
	return ring.head == ring.tail ? -1 : ring.bytes[ring.tail++ % RING_SIZE];
}
