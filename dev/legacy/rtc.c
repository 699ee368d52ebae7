/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MC146818 (Motorola data sheet). The time is an offset to the machine's clock, not something that ticks: registers are made
 * from it when they are read. While the guest has stopped the clock (SET, or the divider in reset) the registers
 * are plain memory, and starting it again makes a new offset of them.
 *
 * The three interrupt flags are found out when somebody looks (sync()); a timer is armed only for flags that are
 * enabled and not set yet, and none while the line is up, since it stays up until register C is read.
 */
#include "dev/legacy/rtc.h"
#include "dev/clock.h"
#include "dev/legacy/rtc_cmos.h"

#define INDEX_PORT 0x70
#define CRYSTAL_HZ 32768u
#define UPDATE_WARNING UINT64_C(244000) /* UIP rises this long before the update */

struct rtc {
	struct bus *bus;
	uint8_t index, cmos[CMOS_SIZE]; /* registers A, B and C stand in it; the time only while it is stopped */
	uint64_t base_seconds; /* at nanosecond base_time of the machine's clock, which may lie before 0 (mod 2^64) */
	uint64_t base_time;
	uint64_t synced; /* up to when the flags are known */
	bool level;
	enum irq_fate fate; /* of the line's last rise */
	struct dev_timer timer;
	struct tick_debt ticks; /* periodic interrupts */
};

static uint64_t now(const struct rtc *rtc)
{
	return rtc->bus->now(rtc->bus->context);
}

static bool divider_runs(uint8_t a)
{
	return (a & A_DIVIDER) == A_DIVIDER_NORMAL;
}

static bool running(const struct rtc *rtc)
{
	return !(rtc->cmos[REGISTER_B] & B_SET) && divider_runs(rtc->cmos[REGISTER_A]);
}

static uint64_t seconds_at(const struct rtc *rtc, uint64_t time)
{
	return rtc->base_seconds + (time - rtc->base_time) / NANOSECONDS;
}

uint64_t rtc_wall_clock(const struct rtc *rtc)
{
	if (!running(rtc))
		return rtc_time_join(rtc_load_time(rtc->cmos)) * NANOSECONDS;
	return rtc->base_seconds * NANOSECONDS + now(rtc) - rtc->base_time;
}

/* Puts the time as it is now into the registers. */
static void store_time(struct rtc *rtc)
{
	rtc_store_time(rtc->cmos, rtc_time_split(seconds_at(rtc, now(rtc))));
}

/* Takes the time from the registers; the phase of the second stays. */
static void load_time(struct rtc *rtc)
{
	rtc->base_time += (now(rtc) - rtc->base_time) / NANOSECONDS * NANOSECONDS;
	rtc->base_seconds = rtc_time_join(rtc_load_time(rtc->cmos));
}

/* ---- interrupts ---- */

/* Crystal ticks per periodic interrupt; 0 for none. Rates 1 and 2 repeat 8 and 9. */
static uint64_t period_ticks(const struct rtc *rtc)
{
	unsigned rate = rtc->cmos[REGISTER_A] & A_RATE;

	if (!rate || !divider_runs(rtc->cmos[REGISTER_A]))
		return 0;
	return UINT64_C(1) << ((rate < 3 ? rate + 7 : rate) - 1);
}

/* When the next flag that is enabled will be set. */
static uint64_t next_event(const struct rtc *rtc, uint64_t time)
{
	uint8_t wanted = rtc->cmos[REGISTER_B] & (uint8_t)~rtc->cmos[REGISTER_C] & C_FLAGS;
	uint64_t period = period_ticks(rtc), second = seconds_at(rtc, time), next = NEVER, alarm;

	if (wanted & C_PERIODIC && period)
		next = clock_time((clock_ticks(time, CRYSTAL_HZ) / period + 1) * period, CRYSTAL_HZ);
	if (!running(rtc))
		return next;
	if (wanted & C_UPDATE)
		next = min_u64(next, rtc->base_time + (second + 1 - rtc->base_seconds) * NANOSECONDS);
	if (wanted & C_ALARM && (alarm = rtc_next_alarm(rtc->cmos, second)) != NEVER)
		next = min_u64(next, rtc->base_time + (alarm - rtc->base_seconds) * NANOSECONDS);
	return next;
}

/* Line and timer as the flags have it. */
static void update(struct rtc *rtc)
{
	uint8_t *c = &rtc->cmos[REGISTER_C];
	bool level = *c & rtc->cmos[REGISTER_B] & C_FLAGS;
	uint64_t next = level ? NEVER : next_event(rtc, now(rtc));

	*c = (*c & C_FLAGS) | (level ? C_REQUEST : 0);
	if (next == NEVER)
		timer_cancel(&rtc->bus->timers, &rtc->timer);
	else
		timer_arm(&rtc->bus->timers, &rtc->timer, next);
	if (level == rtc->level)
		return;
	rtc->level = level;
	rtc->fate = rtc->bus->set_irq(rtc->bus->context, RTC_LINE, level);
}

/* Sets the flags of all that happened since the last call. */
static void sync(struct rtc *rtc)
{
	uint64_t time = now(rtc), since = rtc->synced, period = period_ticks(rtc), over;
	uint8_t *c = &rtc->cmos[REGISTER_C];

	rtc->synced = time;
	if (period) {
		over = clock_ticks(time, CRYSTAL_HZ) / period - clock_ticks(since, CRYSTAL_HZ) / period;
		if (over > 1 && (rtc->cmos[REGISTER_B] & C_PERIODIC))
			tick_owe(rtc->bus, &rtc->ticks, over - !(*c & C_PERIODIC), clock_time(period, CRYSTAL_HZ));
		if (over)
			*c |= C_PERIODIC;
	}
	if (!running(rtc) || seconds_at(rtc, time) == seconds_at(rtc, since))
		return;
	*c |= C_UPDATE;
	if ((*c & C_ALARM) || rtc_next_alarm(rtc->cmos, seconds_at(rtc, since)) > seconds_at(rtc, time))
		return;
	*c |= C_ALARM;
	if (rtc->cmos[REGISTER_B] & C_ALARM)
		rtc->bus->event(rtc->bus->context, MACHINE_ALARM, 0);
}

/* One that is owed. Without a listener there is no more to be had. */
static enum irq_fate raise_periodic(void *device)
{
	struct rtc *rtc = device;

	if (!(rtc->cmos[REGISTER_B] & C_PERIODIC))
		return IRQ_UNHEARD;
	if (rtc->level)
		return IRQ_MERGED;
	rtc->cmos[REGISTER_C] |= C_PERIODIC;
	update(rtc);
	return rtc->fate;
}

static void event(void *device, uint64_t time)
{
	sync(device);
	update(device);
}

/* ---- registers ---- */

static bool updating(const struct rtc *rtc)
{
	return running(rtc) && (now(rtc) - rtc->base_time) % NANOSECONDS >= NANOSECONDS - UPDATE_WARNING;
}

static uint32_t read_data(struct rtc *rtc)
{
	uint8_t value;

	if (rtc_is_time(rtc->index) && running(rtc))
		store_time(rtc);
	value = rtc->cmos[rtc->index];
	if (rtc->index == REGISTER_A)
		return value | (updating(rtc) ? A_UPDATING : 0);
	if (rtc->index == REGISTER_D)
		return D_VALID;
	if (rtc->index == REGISTER_C) {
		sync(rtc);
		update(rtc);
		value = rtc->cmos[REGISTER_C];
		rtc->cmos[REGISTER_C] = 0;
		update(rtc);
		tick_pay(rtc->bus);
	}
	return value;
}

/* Registers A and B, which can stop the clock and start it again. */
static void write_control(struct rtc *rtc, uint8_t value)
{
	bool ran = running(rtc), divided = divider_runs(rtc->cmos[REGISTER_A]);

	tick_forget(&rtc->ticks);
	if (ran)
		store_time(rtc);
	if (rtc->index == REGISTER_A)
		value &= (uint8_t)~A_UPDATING;
	else if (value & B_SET)
		value &= (uint8_t)~C_UPDATE; /* SET clears the update interrupt's enable bit */
	/* Taken out of reset, the divider makes its first update after half a second. */
	if (rtc->index == REGISTER_A && !divided && divider_runs(value))
		rtc->base_time = now(rtc) - NANOSECONDS / 2;
	rtc->cmos[rtc->index] = value;
	if (!ran && running(rtc))
		load_time(rtc);
}

static void write_data(struct rtc *rtc, uint8_t value)
{
	sync(rtc);
	switch (rtc->index) {
	case REGISTER_A:
	case REGISTER_B: write_control(rtc, value); break;
	case REGISTER_C:
	case REGISTER_D: /* read only */ break;
	default:
		if (rtc_is_time(rtc->index) && running(rtc)) {
			store_time(rtc);
			rtc->cmos[rtc->index] = value;
			load_time(rtc);
		} else {
			rtc->cmos[rtc->index] = value;
		}
		break;
	}
	update(rtc);
}

static uint32_t rtc_read(void *device, uint16_t port, unsigned size)
{
	/* The index is write only; bit 7, the NMI mask, has no NMI to mask. */
	return port == INDEX_PORT ? 0xff : read_data(device);
}

static void rtc_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct rtc *rtc = device;

	if (port == INDEX_PORT)
		rtc->index = value & (CMOS_SIZE - 1);
	else
		write_data(rtc, (uint8_t)value);
}

static const struct port_ops rtc_ops = { .widest = 1, .read = rtc_read, .write = rtc_write };

/* ---- life ---- */

void rtc_reset(struct rtc *rtc)
{
	rtc->index = 0;
	rtc->cmos[REGISTER_B] &= B_SET | B_BINARY | B_24_HOURS | 1;
	rtc->cmos[REGISTER_C] = 0;
	tick_forget(&rtc->ticks);
	rtc->synced = now(rtc);
	update(rtc);
}

enum status rtc_create(struct bus *bus, uint64_t seconds, uint64_t below_4g, uint64_t above_4g, struct rtc **out)
{
	struct rtc *rtc = device_alloc(bus, sizeof(*rtc));

	if (!rtc)
		return NO_MEMORY;
	rtc->bus = bus;
	rtc->timer = (struct dev_timer){ .fire = event, .device = rtc };
	rtc->ticks = (struct tick_debt){ .raise = raise_periodic, .device = rtc };
	rtc->base_seconds = seconds;
	rtc->base_time = now(rtc);
	rtc->cmos[REGISTER_A] = A_DIVIDER_NORMAL | 6; /* 1024 Hz, as firmware leaves it */
	rtc->cmos[REGISTER_B] = B_24_HOURS;
	rtc_store_memory(rtc->cmos, below_4g, above_4g);
	store_time(rtc);
	rtc_reset(rtc);
	TRY(port_register(bus, INDEX_PORT, 2, &rtc_ops, rtc, "rtc"));
	tick_open(bus, &rtc->ticks);
	*out = rtc;
	return OK;
}
