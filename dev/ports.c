/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lives as long as the bus: the devices' memory, and the machine's 65,536 I/O ports: 256 pages of 256 entries. A page that no device has
 * touched is the table's one open page, whose entries read all ones; so a lookup has no
 * special case and costs two loads.
 *
 * Accesses wider than a device are split here into bytes, each looked up by itself, so
 * that one OUTW may reach two devices and no 8-bit device needs to think of it.
 */
#include "dev/bus.h"
#include "lib/memory.h"

#define PAGE_ENTRIES 256u
#define TABLE_PAGES 256u

struct port_entry {
	const struct port_ops *ops;
	void *device;
	const char *name;
};

struct port_page {
	struct port_entry entries[PAGE_ENTRIES];
};

struct port_table {
	struct port_page *pages[TABLE_PAGES];
	struct port_page open;
};

/* In front of each piece, a cache line long: a page's piece stays aligned to one (struct lapic wants that). */
struct bus_memory {
	struct bus_memory *next;
	size_t size;
	uint64_t unused[6];
};

_Static_assert(PAGE_ENTRIES *TABLE_PAGES == 65536, "every port has one entry");

static uint32_t open_read(void *device, uint16_t port, unsigned size)
{
	return UINT32_MAX;
}

static void open_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
}

static const struct port_ops open_ops = { .widest = 1, .read = open_read, .write = open_write };

static void page_clear(struct port_page *page)
{
	for (unsigned i = 0; i < PAGE_ENTRIES; i++)
		page->entries[i] = (struct port_entry){ .ops = &open_ops };
}

void *device_alloc(struct bus *bus, size_t size)
{
	struct bus_memory *piece = heap_alloc(sizeof(*piece) + size);

	if (!piece)
		return NULL;
	*piece = (struct bus_memory){ .next = bus->memory, .size = sizeof(*piece) + size };
	bus->memory = piece;
	return piece + 1;
}

void bus_close(struct bus *bus)
{
	for (struct bus_memory *piece = bus->memory, *next; piece; piece = next) {
		next = piece->next;
		heap_free(piece, piece->size);
	}
	bus->memory = NULL;
	bus->ports = NULL;
	bus->timers.first = NULL;
	bus->debts = NULL;
}

enum status port_table_create(struct bus *bus)
{
	struct port_table *table = device_alloc(bus, sizeof(*table));

	if (!table)
		return NO_MEMORY;
	page_clear(&table->open);
	for (unsigned i = 0; i < TABLE_PAGES; i++)
		table->pages[i] = &table->open;
	bus->ports = table;
	return OK;
}

static inline struct port_entry *port_entry(const struct bus *bus, uint16_t port)
{
	return &bus->ports->pages[port / PAGE_ENTRIES]->entries[port % PAGE_ENTRIES];
}

/* Gives the port a page of its own; NO_MEMORY. */
static enum status own_page(struct bus *bus, uint16_t port)
{
	struct port_page **page = &bus->ports->pages[port / PAGE_ENTRIES];
	struct port_page *fresh;

	if (*page != &bus->ports->open)
		return OK;
	fresh = device_alloc(bus, sizeof(*fresh));
	if (!fresh)
		return NO_MEMORY;
	page_clear(fresh);
	*page = fresh;
	return OK;
}

enum status port_register(struct bus *bus, uint16_t first, unsigned count, const struct port_ops *ops, void *device,
			  const char *name)
{
	if (!count || count > 65536u - first)
		return BAD_VALUE;
	for (unsigned i = 0; i < count; i++)
		if (port_entry(bus, (uint16_t)(first + i))->ops != &open_ops)
			return CONFLICT;
	for (unsigned i = 0; i < count; i++)
		TRY(own_page(bus, (uint16_t)(first + i)));
	for (unsigned i = 0; i < count; i++)
		*port_entry(bus, (uint16_t)(first + i)) = (struct port_entry){ ops, device, name };
	return OK;
}

static bool takes(const struct port_entry *entry, unsigned size)
{
	return !entry->ops->widest || size <= entry->ops->widest;
}

/* Out of line, so that the common case saves no registers for it. */
static __attribute__((noinline)) uint32_t split_read(struct bus *bus, uint16_t port, unsigned size)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < size; i++) {
		const struct port_entry *entry = port_entry(bus, (uint16_t)(port + i));

		value |= (entry->ops->read(entry->device, (uint16_t)(port + i), 1) & 0xff) << (8 * i);
	}
	return value;
}

static __attribute__((noinline)) void split_write(struct bus *bus, uint16_t port, unsigned size, uint32_t value)
{
	for (unsigned i = 0; i < size; i++) {
		const struct port_entry *entry = port_entry(bus, (uint16_t)(port + i));

		entry->ops->write(entry->device, (uint16_t)(port + i), 1, value >> (8 * i) & 0xff);
	}
}

uint32_t port_read(struct bus *bus, uint16_t port, unsigned size)
{
	const struct port_entry *entry = port_entry(bus, port);

	if (likely(size == 1))
		return (uint8_t)entry->ops->read(entry->device, port, 1);
	if (!takes(entry, size))
		return split_read(bus, port, size);
	return entry->ops->read(entry->device, port, size) & (uint32_t)byte_mask(size);
}

void port_write(struct bus *bus, uint16_t port, unsigned size, uint32_t value)
{
	const struct port_entry *entry = port_entry(bus, port);

	if (likely(size == 1))
		entry->ops->write(entry->device, port, 1, (uint8_t)value);
	else if (takes(entry, size))
		entry->ops->write(entry->device, port, size, value & (uint32_t)byte_mask(size));
	else
		split_write(bus, port, size, value);
}
