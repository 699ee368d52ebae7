/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bus: all that a device model knows of the world. A device gets a struct bus at
 * creation, registers its ports and MMIO, raises its interrupt lines, arms its timers,
 * and talks to its console. It never sees a machine, a vcpu or a vendor.
 *
 * Locking: every call into a device, and from a device into the bus, is made under the
 * machine's device lock, which whoever calls in holds. Devices take none of
 * their own. Local APICs are the exception: they belong each to its processor, and need the lock for what concerns others.
 *
 * Device state is plain data in one struct per device, so that it can be saved later;
 * reset() puts it back to power-on. Devices are created once per machine, in memory of the bus, and end with it: none goes before, and
 * what a creation that failed has registered goes then, too.
 */
#pragma once

#include "arch/x86_64/address.h"
#include "lib/status.h"

struct bus;

/*
 * size is 1, 2 or 4 (ports), 1, 2, 4 or 8 (MMIO). A port access wider than `widest` bytes is split by the table into
 * bytes, each looked up by itself, as the ISA bus does; 0 means that the device answers every size.
 */
struct port_ops {
	unsigned widest;
	uint32_t (*read)(void *device, uint16_t port, unsigned size);
	void (*write)(void *device, uint16_t port, unsigned size, uint32_t value);
};

struct mmio_ops {
	uint64_t (*read)(void *device, uint64_t offset, unsigned size);
	void (*write)(void *device, uint64_t offset, unsigned size, uint64_t value);
};

/*
 * A window of MMIO, whole pages. One that moves (a BAR) is embedded in its device, which says where it wants it and calls
 * bus->windows_moved(); the machine maps it there before the vcpu on whose behalf the device said so runs on. Where memory or
 * another window is, it isn't shown, until one of them moves.
 */
#define MMIO_NOWHERE UINT64_MAX
struct mmio_window {
	const struct mmio_ops *ops;
	void *device;
	const char *name;
	uint64_t size;
	uint64_t wanted; /* the device's; MMIO_NOWHERE: not to be seen */

	uint64_t base;            /* the machine's, from here on: where it is, or MMIO_NOWHERE */
	struct mmio_window *next; /* of those that move */
	void *context;
};

/* A device-side timer. Embedded in the device; the queue links it. One shot; nanoseconds of the machine's clock. */
struct dev_timer {
	struct dev_timer *next; /* the queue's */
	uint64_t deadline;
	bool armed;
	void (*fire)(void *device, uint64_t now); /* runs under the device lock; may arm again */
	void *device;
	uint32_t run, fired; /* the queue's: how often it fired in which call of timer_run() */
};

/* Sorted singly linked queue; a machine has about ten timers. */
struct timer_queue {
	struct dev_timer *first;
	uint32_t run; /* number of the present call of timer_run() */
};

void timer_arm(struct timer_queue *queue, struct dev_timer *timer, uint64_t deadline);
void timer_cancel(struct timer_queue *queue, struct dev_timer *timer);
/* The next deadline, or UINT64_MAX. */
uint64_t timer_next(const struct timer_queue *queue);
/* Fires all that are due at `now`, in order of deadline; bounded: each timer at most 64 times a call. */
void timer_run(struct timer_queue *queue, uint64_t now);

/* What became of an interrupt: nobody listens; it is one with an earlier one that waits; it waits now. In rising order. */
enum irq_fate { IRQ_UNHEARD, IRQ_MERGED, IRQ_TAKEN };

/* ---- tick.c: periodic interrupts that a machine owes its guest ---- */

/* One periodic source; embedded in its device. */
struct tick_debt {
	struct tick_debt *next; /* the bus's list */
	uint32_t owed, in_row;  /* paid since the last one that came by itself */
	uint32_t at_least;      /* of these may come after `until`, too */
	bool listed;            /* it is on the bus's list, and told by bus->ticks_owed */
	uint64_t until;
	enum irq_fate (*raise)(void *device);
	void *device;
};

/* From creation of the device on. One that isn't on the list is paid by its device, on its processor. */
void tick_open(struct bus *bus, struct tick_debt *debt);
/* The source was programmed anew: nothing of the old is owed. */
void tick_forget(struct tick_debt *debt);
/* `count` (1 at least) periods, of so many nanoseconds each, are over: raises one, and owes those that could not be. */
void tick_due(struct bus *bus, struct tick_debt *debt, uint64_t count, uint64_t period);
/* The same where one has been raised already. */
void tick_owe(struct bus *bus, struct tick_debt *debt, uint64_t count, uint64_t period);
/* The guest has taken an interrupt, so one that is owed may find its place free. */
void tick_pay(struct bus *bus);
/* The same for one debt. */
void tick_pay_one(struct bus *bus, struct tick_debt *debt);

/*
 * Where interrupt wires end. The fate is that of a rising edge. line: 0..23, as on a PC (ISA IRQ n goes to the PICs' input n and to
 * the IOAPIC's pin, 0 to pin 2).
 */
typedef enum irq_fate (*irq_set)(void *context, unsigned line, bool level);

/* What a device can ask of the machine as a whole. */
enum machine_event {
	MACHINE_RESET,      /* reset button: i8042, port 0x92, 0xcf9, triple fault by keyboard */
	MACHINE_POWEROFF,   /* S5 */
	MACHINE_EXIT_PORT,  /* a write to 0xf4; value given */
	MACHINE_A20,        /* value: 1 gate open, 0 closed */
	MACHINE_ALARM,      /* the clock's alarm goes off, and its interrupt is enabled */
	MACHINE_FAST_TIMER, /* a periodic timer was set below TIMER_MINIMUM_PERIOD; value: nanoseconds asked for */
};

struct bus {
	struct port_table *ports; /* dev/ports.c's, and the next */
	struct bus_memory *memory;
	struct timer_queue timers;
	struct tick_debt *debts; /* dev/tick.c's, and the next three, too */
	bool ticks_owed;         /* atomic: any of them: call tick_pay() when the guest has taken an interrupt */
	uint64_t ticks_made_up, ticks_lost; /* atomic */
	/*
	 * Until this time of now() the guest measures one of its clocks against another, as Linux does at boot: it comes out wrong if the
	 * machine doesn't run amid it. 0: it doesn't. Read without the lock, too.
	 */
	uint64_t measuring;

	/* Set by the machine before any device is created. context goes to each. */
	void *context;
	uint64_t (*now)(void *context); /* nanoseconds since the machine was started, not counting pauses; monotonic */
	/* The devices' lock, for local APICs. */
	void (*lock)(void *context);
	void (*unlock)(void *context);
	irq_set set_irq;
	void (*event)(void *context, enum machine_event event, uint32_t value);
	/* Console of the machine: output bytes; input is pushed with uart_input(). */
	void (*console_write)(void *context, const uint8_t *bytes, size_t length);
	void (*debug_write)(void *context, uint8_t byte); /* port 0xe9 */
	/* Maps size bytes at gpa; CONFLICT, LIMIT, NO_MEMORY. Wired to PGM's handler tree by vm/. */
	enum status (*map_mmio)(void *context, gpa_t where, uint64_t size, const struct mmio_ops *ops, void *device,
				const char *name);
	/* One that moves, from its device's creation to the machine's end; `wanted` is set. */
	void (*window_open)(void *context, struct mmio_window *window);
	/* Some window's `wanted` has changed. */
	void (*windows_moved)(void *context);
	/* A message-signalled interrupt: a device writes data to an address. Elsewhere than to the APICs it is lost. */
	enum irq_fate (*msi)(void *context, uint64_t address, uint32_t data);
	/* Guest-physical access for devices that do DMA or read tables. */
	enum status (*memory_read)(void *context, gpa_t from, void *to, size_t length);
	enum status (*memory_write)(void *context, gpa_t to, const void *from, size_t length);
};

/* dev/ports.c: zeroed memory that lives as long as the bus, up to 1 MiB; NULL when there is none. */
void *device_alloc(struct bus *bus, size_t size) __attribute__((malloc, warn_unused_result));
/* The end of all devices: nobody may call them any more. Also for a bus that was never filled in. */
void bus_close(struct bus *bus);
/* 65,536 ports, two levels, a lookup of a few instructions. NO_MEMORY. */
enum status port_table_create(struct bus *bus) must_check;
/* count ports from first; CONFLICT if any is taken, NO_MEMORY. name is kept, not copied. */
enum status port_register(struct bus *bus, uint16_t first, unsigned count, const struct port_ops *ops, void *device,
			  const char *name) must_check;
/* Ports that nobody has registered read all ones and swallow writes. */
uint32_t port_read(struct bus *bus, uint16_t port, unsigned size);
void port_write(struct bus *bus, uint16_t port, unsigned size, uint32_t value);
