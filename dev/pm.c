/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI registers: 16 ports, seen as bytes, so that any access size and alignment gives what the bytes say.
 * The timer is read once for a whole access. The machine is in ACPI mode from the start (SCI_EN is fixed).
 *
 * The timer has 32 bits and its status bit follows bit 31, every ten minutes; it is found out when
 * the status is looked at, and a device timer exists only while the guest wants the interrupt.
 */
#include "dev/pm.h"
#include "dev/clock.h"

#define PM_BLOCK_SIZE 16u
#define STATUS_OFFSET 0u
#define ENABLE_OFFSET 2u
#define CONTROL_OFFSET (PM_CONTROL_BLOCK - PM_EVENT_BLOCK)
#define TIMER_OFFSET (PM_TIMER_BLOCK - PM_EVENT_BLOCK)

#define EVENT_TIMER 0x0001u
#define EVENT_POWER_BUTTON 0x0100u
#define EVENT_RTC 0x0400u
#define STATUS_BITS 0x8731u /* timer, bus master, global, buttons, RTC, wake */
#define ENABLE_BITS 0x0721u
#define CONTROL_SCI_ENABLE 0x0001u
#define CONTROL_BITS 0x1c02u /* kept: sleep type, bus master reload */
#define CONTROL_SLEEP 0x2000u
#define SLEEP_TYPE(control) ((control) >> 10 & 7u)
#define CARRY_SHIFT 31

_Static_assert(CONTROL_OFFSET == ENABLE_OFFSET + 2 && TIMER_OFFSET + 4 <= PM_BLOCK_SIZE, "the blocks lie in order");
_Static_assert((ENABLE_BITS & STATUS_BITS) == ENABLE_BITS, "every enable bit has its status");

struct pm {
	struct bus *bus;
	uint16_t status, enable, control;
	uint64_t seen; /* tick up to which the timer's carry is in status */
	bool level;
	struct dev_timer timer;
};

static uint64_t now_tick(const struct pm *pm)
{
	return clock_ticks(pm->bus->now(pm->bus->context), PM_TIMER_HZ);
}

/* Brings the status up to date, the SCI with it, and arms the timer for the next carry if it is wanted. */
static void update(struct pm *pm)
{
	uint64_t tick = now_tick(pm);
	bool level;

	if (tick >> CARRY_SHIFT != pm->seen >> CARRY_SHIFT)
		pm->status |= EVENT_TIMER;
	pm->seen = tick;
	if (pm->enable & ~pm->status & EVENT_TIMER)
		timer_arm(&pm->bus->timers, &pm->timer,
			  clock_time(((tick >> CARRY_SHIFT) + 1) << CARRY_SHIFT, PM_TIMER_HZ));
	else
		timer_cancel(&pm->bus->timers, &pm->timer);
	level = pm->status & pm->enable;
	if (level == pm->level)
		return;
	pm->level = level;
	pm->bus->set_irq(pm->bus->context, PM_SCI_LINE, level);
}

static void carry(void *device, uint64_t now)
{
	update(device);
}

static uint32_t pm_read(void *device, uint16_t port, unsigned size)
{
	struct pm *pm = device;
	unsigned offset = port - PM_EVENT_BLOCK;
	uint64_t low, high;

	if (port == PM_TIMER_BLOCK) /* what guests do all the time */
		return (uint32_t)now_tick(pm);
	update(pm);
	low = pm->status | (uint64_t)pm->enable << 16 | (uint64_t)(pm->control | CONTROL_SCI_ENABLE) << 32;
	high = (uint32_t)pm->seen;
	if (offset >= 8)
		return (uint32_t)(high >> (8 * (offset - 8)));
	return (uint32_t)(low >> (8 * offset) | (offset ? high << (64 - 8 * offset) : 0));
}

static void write_byte(struct pm *pm, unsigned offset, uint8_t value)
{
	uint16_t shifted = (uint16_t)(value << (offset % 2 * 8)), keep = offset % 2 ? 0x00ff : 0xff00;

	switch (offset & ~1u) {
	case STATUS_OFFSET: /* ones clear */ pm->status &= (uint16_t)~shifted; break;
	case ENABLE_OFFSET: pm->enable = (pm->enable & keep) | (shifted & ENABLE_BITS); break;
	case CONTROL_OFFSET:
		pm->control = (pm->control & keep) | (shifted & CONTROL_BITS);
		if (shifted & CONTROL_SLEEP && SLEEP_TYPE(pm->control) == PM_SLEEP_TYPE_S5)
			pm->bus->event(pm->bus->context, MACHINE_POWEROFF, 0);
		break;
	default: /* the timer is read only */ break;
	}
}

static void pm_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct pm *pm = device;
	unsigned offset = port - PM_EVENT_BLOCK;

	update(pm); /* a carry before this write must not survive it */
	for (unsigned i = 0; i < size; i++)
		write_byte(pm, offset + i, (uint8_t)(value >> (8 * i)));
	update(pm);
}

static const struct port_ops pm_ops = { .widest = 4, .read = pm_read, .write = pm_write };

void pm_power_button(struct pm *pm)
{
	pm->status |= EVENT_POWER_BUTTON;
	update(pm);
}

void pm_alarm(struct pm *pm)
{
	pm->status |= EVENT_RTC;
	update(pm);
}

void pm_reset(struct pm *pm)
{
	pm->status = pm->enable = pm->control = 0;
	pm->seen = now_tick(pm);
	update(pm);
}

enum status pm_create(struct bus *bus, struct pm **out)
{
	struct pm *pm = device_alloc(bus, sizeof(*pm));

	if (!pm)
		return NO_MEMORY;
	pm->bus = bus;
	pm->timer = (struct dev_timer){ .fire = carry, .device = pm };
	pm_reset(pm);
	TRY(port_register(bus, PM_EVENT_BLOCK, PM_BLOCK_SIZE, &pm_ops, pm, "acpi pm"));
	*out = pm;
	return OK;
}
