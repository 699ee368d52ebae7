/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fan-out of interrupt wires. Both controllers see every ISA line at once and the guest masks the one it doesn't use.
 * The PICs' own output comes back to LINT0 of the local APICs, not through here.
 */
#include "dev/irq.h"

#define ISA_LINES 16u
#define TIMER_LINE 0u
#define TIMER_PIN 2u /* where the interrupt override in the MADT must put line 0 */
#define CASCADE_LINE 2u

enum irq_fate irq_router_set(struct irq_router *router, unsigned line, bool level)
{
	enum irq_fate pic = IRQ_UNHEARD, ioapic = IRQ_UNHEARD;

	if (line == CASCADE_LINE)
		return IRQ_UNHEARD;
	if (line < ISA_LINES && router->pic)
		pic = pic_set_line(router->pic, line, level);
	if (router->ioapic)
		ioapic = ioapic_set_pin(router->ioapic, line == TIMER_LINE ? TIMER_PIN : line, level);
	return pic > ioapic ? pic : ioapic;
}
