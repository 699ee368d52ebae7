/* SPDX-License-Identifier: Apache-2.0 */
/* The old interrupt controllers and timer, as far as guests need them. Intel 8259A, 8254 data sheets. */
#include "guest.h"

#define PIC1 0x20
#define PIC2 0xa0

void pic_init(void)
{
	out8(PIC1, 0x11);
	out8(PIC2, 0x11);
	out8(PIC1 + 1, IRQ_BASE);
	out8(PIC2 + 1, IRQ_BASE + 8);
	out8(PIC1 + 1, 4);
	out8(PIC2 + 1, 2);
	out8(PIC1 + 1, 1);
	out8(PIC2 + 1, 1);
	out8(PIC1 + 1, 0xff);
	out8(PIC2 + 1, 0xff);
}

void pic_unmask(unsigned line)
{
	uint16_t port = line < 8 ? PIC1 + 1 : PIC2 + 1;

	out8(port, (uint8_t)(in8(port) & ~(1u << (line & 7))));
	if (line >= 8)
		pic_unmask(2);
}

void pic_eoi(unsigned line)
{
	if (line >= 8)
		out8(PIC2, 0x20);
	out8(PIC1, 0x20);
}

void pit_start(unsigned mode, uint16_t count)
{
	out8(0x43, (uint8_t)(0x30 | mode << 1));
	out8(0x40, (uint8_t)count);
	out8(0x40, (uint8_t)(count >> 8));
}
