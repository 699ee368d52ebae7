/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hardware watchdog that firmware has started would restart the machine in the midst of its work: nobody here feeds it. ACPI's
 * table WDAT tells by which writes it is stopped. Microsoft, "Hardware Watchdog Timers Design Specification", section 3.
 */
#include <string.h>

#include "arch/x86_64/acpi.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"

#define WDAT_COUNT 64u
#define WDAT_ENTRIES 68u
#define ACTION_STOP 0x0bu
#define WRITE_VALUE 2u
#define KEEP_OTHER_BITS 0x80u

struct wdat_entry {
	uint8_t action, instruction;
	uint16_t reserved;
	struct acpi_address where;
	uint32_t value, mask;
} __attribute__((packed));
_Static_assert(sizeof(struct wdat_entry) == 24, "as firmware writes it");

static bool run(const struct wdat_entry *e)
{
	unsigned bits = e->where.access >= 1 && e->where.access <= 3 ? 4u << e->where.access : e->where.bits;
	uint32_t value = (e->value & e->mask) << (e->where.offset & 31), mask = e->mask << (e->where.offset & 31);
	struct acpi_register r;

	if ((e->instruction & ~KEEP_OTHER_BITS) != WRITE_VALUE || (bits != 8 && bits != 16 && bits != 32) ||
	    !acpi_open(&e->where, bits, &r))
		return false;
	if (e->instruction & KEEP_OTHER_BITS)
		value |= acpi_read(&r, bits) & ~mask;
	acpi_write(&r, bits, value);
	return true;
}

void acpi_stop_watchdog(void)
{
	const uint8_t *wdat = host_acpi_table("WDAT");
	uint32_t length = wdat ? ((const struct acpi_header *)wdat)->length : 0, count;
	bool stopped = false;

	if (length < WDAT_ENTRIES)
		return;
	memcpy(&count, wdat + WDAT_COUNT, sizeof(count));
	for (uint32_t i = 0; i < count && i < (length - WDAT_ENTRIES) / sizeof(struct wdat_entry); i++) {
		struct wdat_entry e;

		memcpy(&e, wdat + WDAT_ENTRIES + i * sizeof(e), sizeof(e));
		stopped |= e.action == ACTION_STOP && run(&e);
	}
	log_line(stopped ? LOG_DEBUG "acpi: hardware watchdog stopped"
			 : LOG_WARNING
			 "acpi: there is a hardware watchdog that can't be stopped: if the machine restarts by "
			 "itself, switch it off in the firmware setup");
}
