/* SPDX-License-Identifier: Apache-2.0 */
// sources: dev/ports.c dev/timer.c dev/pci/*.c dev/legacy/reset_port.c
/* The PCI bus: both ways to configuration space, BARs that are sized and moved, INTx that is shared, MSI-X. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/fake_bus.h"
#include "dev/legacy/reset_port.h"
#include "dev/pci/pci.h"

static struct fake_bus fake;
static struct pci *pci;
static const struct mmio_ops *ecam;
static void *ecam_device;
extern long heap_budget, heap_live;

static uint64_t last_offset, last_value, answer;

static uint64_t page_read(void *device, uint64_t offset, unsigned size)
{
	last_offset = offset;
	return answer;
}

static void page_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	last_offset = offset;
	last_value = value;
}

static const struct mmio_ops page_ops = { .read = page_read, .write = page_write };

static enum status map(void *context, gpa_t where, uint64_t size, const struct mmio_ops *ops, void *device,
		       const char *name)
{
	assert_int_equal(where.v, PCI_ECAM_BASE);
	assert_int_equal(size, PCI_ECAM_SIZE);
	ecam = ops;
	ecam_device = device;
	return OK;
}

static void open_bus(void)
{
	fake_bus_open(&fake);
	fake.bus.map_mmio = map;
	assert_int_equal(pci_create(&fake.bus, &pci), OK);
}

static void close_bus(void)
{
	fake_bus_close(&fake);
	assert_int_equal(heap_live, 0);
}

static const struct pci_identity identity = {
	.vendor = 0x1234, .device = 0x5678, .class = 0xff0102, .revision = 3, .interrupt = true
};

static void open_function(struct pci_function *f)
{
	assert_int_equal(pci_open(pci, f, &identity, NULL, NULL), OK);
	pci_bar_open(f, 0, 0x4000, &page_ops, NULL, "test");
	pci_msix_open(f, 3, "test MSI-X");
	pci_ready(f);
}

static uint32_t config_in(unsigned slot, unsigned offset, unsigned size)
{
	port_write(&fake.bus, 0xcf8, 4, 0x80000000u | slot << 11 | (offset & 0xfc));
	return port_read(&fake.bus, (uint16_t)(0xcfc + offset % 4), size);
}

static void config_out(unsigned slot, unsigned offset, unsigned size, uint32_t value)
{
	port_write(&fake.bus, 0xcf8, 4, 0x80000000u | slot << 11 | (offset & 0xfc));
	port_write(&fake.bus, (uint16_t)(0xcfc + offset % 4), size, value);
}

static void ways_agree(void **state)
{
	struct pci_function f;
	struct reset_port *reset;

	open_bus();
	open_function(&f);
	assert_int_equal(config_in(0, PCI_CLASS_REVISION, 4) >> 8, 0x060000);
	assert_int_equal(config_in(1, 0, 4), 0x56781234);
	assert_int_equal(config_in(1, 2, 2), 0x5678);
	assert_int_equal(config_in(1, 3, 1), 0x56);
	assert_int_equal(config_in(2, 0, 4), UINT32_MAX);
	assert_int_equal(config_in(1 | 1 << 5, 0, 4), UINT32_MAX); /* bus 1 */
	for (unsigned i = 0; i < 256; i += 4)
		assert_int_equal(config_in(1, i, 4), ecam->read(ecam_device, 0x8000 + i, 4));
	assert_int_equal(ecam->read(ecam_device, 0x8000, 8), 0x56781234 | (uint64_t)config_in(1, 4, 4) << 32);
	assert_int_equal(ecam->read(ecam_device, 0x8100, 4), 0);
	assert_int_equal(ecam->read(ecam_device, 0x9000, 4), UINT64_MAX); /* function 1 */
	assert_int_equal(ecam->read(ecam_device, 0x10000, 4), UINT64_MAX);
	assert_int_equal(ecam->read(ecam_device, 0xff000, 4), UINT64_MAX);
	ecam->write(ecam_device, 0x8000 + PCI_INTERRUPT_LINE, 1, 0x77);
	assert_int_equal(config_in(1, PCI_INTERRUPT_LINE, 1), 0x77);
	assert_int_equal(config_in(1, PCI_INTERRUPT_PIN, 1), 1);
	/* Only words of 32 bits are an address; the byte in its middle is another device's. */
	assert_int_equal(reset_port_create(&fake.bus, &reset), OK);
	port_write(&fake.bus, 0xcf8, 4, 0x80000600);
	port_write(&fake.bus, 0xcf8, 4, 0x80000800);
	port_write(&fake.bus, 0xcf8, 2, 0);
	port_write(&fake.bus, 0xcf9, 1, 2);
	assert_int_equal(port_read(&fake.bus, 0xcf8, 4), 0x80000800);
	assert_int_equal(fake.events, 0);
	port_write(&fake.bus, 0xcf8, 4, 0x00000800);
	assert_int_equal(port_read(&fake.bus, 0xcfc, 4), UINT32_MAX);
	port_write(&fake.bus, 0xcf8, 4, 0x80000800);
	assert_int_equal(port_read(&fake.bus, 0xcfd, 4), UINT32_MAX); /* over the word's end */
	close_bus();
}

static void bars_move(void **state)
{
	struct pci_function f, g;
	uint32_t first, second;
	unsigned moves;

	open_bus();
	open_function(&f);
	open_function(&g);
	/* In place from the start, apart, each aligned to its size. */
	first = config_in(1, PCI_BASE_ADDRESS_0, 4);
	second = config_in(2, PCI_BASE_ADDRESS_0, 4);
	assert_true(first >= PCI_WINDOW_BASE && first % 0x4000 == 0 && second >= first + 0x5000 &&
		    second % 0x4000 == 0);
	assert_ptr_equal(fake_bus_find(&fake, first), &f.bar[0]);
	assert_ptr_equal(fake_bus_find(&fake, first + 0x3fff), &f.bar[0]);
	assert_ptr_equal(fake_bus_find(&fake, second), &g.bar[0]);
	answer = 0x1122;
	assert_int_equal(mmio_in(&fake, first + 0x10, 2), 0x1122);
	assert_int_equal(last_offset, 0x10);
	/* Sized: what sticks of all ones. */
	config_out(1, PCI_COMMAND, 2, 0);
	assert_null(fake_bus_find(&fake, first));
	config_out(1, PCI_BASE_ADDRESS_0, 4, UINT32_MAX);
	assert_int_equal(config_in(1, PCI_BASE_ADDRESS_0, 4), 0xffffc000);
	config_out(1, PCI_BASE_ADDRESS_1, 4, UINT32_MAX);
	assert_int_equal(config_in(1, PCI_BASE_ADDRESS_1, 4), 0xfffff000);
	for (unsigned i = 2; i < 6; i++) {
		config_out(1, PCI_BASE_ADDRESS_0 + 4 * i, 4, UINT32_MAX);
		assert_int_equal(config_in(1, PCI_BASE_ADDRESS_0 + 4 * i, 4), 0);
	}
	config_out(1, PCI_ROM_ADDRESS, 4, UINT32_MAX);
	assert_int_equal(config_in(1, PCI_ROM_ADDRESS, 4), 0);
	/* Moved byte by byte, shown when memory is decoded again. */
	for (unsigned i = 0; i < 4; i++)
		config_out(1, PCI_BASE_ADDRESS_0 + i, 1, 0xfd004000u >> (8 * i));
	moves = fake.moves;
	config_out(1, PCI_COMMAND, 1, PCI_COMMAND_MEMORY);
	assert_true(fake.moves > moves);
	assert_ptr_equal(fake_bus_find(&fake, 0xfd004000), &f.bar[0]);
	moves = fake.moves;
	config_out(1, PCI_COMMAND, 1, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(fake.moves, moves); /* nothing has */
	assert_true(pci_is_master(&f));
	config_out(1, PCI_BASE_ADDRESS_0, 4, 0); /* not assigned */
	assert_null(fake_bus_find(&fake, 0));
	pci_reset(pci);
	assert_int_equal(config_in(1, PCI_BASE_ADDRESS_0, 4), first);
	assert_ptr_equal(fake_bus_find(&fake, first), &f.bar[0]);
	assert_false(pci_is_master(&f));
	close_bus();
}

static void read_only_stays(void **state)
{
	struct pci_function f;

	open_bus();
	open_function(&f);
	for (unsigned i = 0; i < 256; i++) {
		uint32_t before = config_in(1, i, 1), after;

		config_out(1, i, 1, ~before & 0xff);
		after = config_in(1, i, 1);
		assert_int_equal((before ^ after) & ~f.writable[i], 0);
		config_out(1, i, 1, before);
	}
	assert_int_equal(config_in(1, 0, 4), 0x56781234);
	assert_int_equal(config_in(1, PCI_CLASS_REVISION, 4), 0xff010203);
	assert_int_equal(config_in(1, PCI_COMMAND, 2) &
				 (uint32_t) ~(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE),
			 0);
	close_bus();
}

static void slots_run_out(void **state)
{
	struct pci_function f[PCI_SLOTS];

	open_bus();
	for (unsigned i = 0; i + 1 < PCI_SLOTS; i++)
		open_function(&f[i]);
	assert_int_equal(pci_open(pci, &f[PCI_SLOTS - 1], &identity, NULL, NULL), LIMIT);
	close_bus();
}

static void lines_are_shared(void **state)
{
	struct pci_function f[3];

	open_bus();
	for (unsigned i = 0; i < 3; i++)
		open_function(&f[i]);
	pci_set_line(&f[0], true);
	assert_true(fake.level[11] && !fake.level[10]);
	assert_int_equal(config_in(1, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
	pci_set_line(&f[2], true);
	pci_set_line(&f[0], false);
	assert_true(fake.level[11]); /* the third one's still */
	config_out(3, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
	assert_false(fake.level[11]);
	assert_int_equal(config_in(3, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
	config_out(3, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(fake.level[11]);
	pci_set_line(&f[1], true);
	assert_true(fake.level[10]);
	pci_reset(pci);
	assert_false(fake.level[10] || fake.level[11]);
	close_bus();
}

static void messages(void **state)
{
	struct pci_function f;
	uint64_t table;

	open_bus();
	open_function(&f);
	table = config_in(1, PCI_BASE_ADDRESS_1, 4);
	assert_int_equal(config_in(1, PCI_CAPABILITY_LIST, 1), f.msix.capability);
	assert_int_equal(config_in(1, f.msix.capability + PCI_MSIX_FLAGS, 2), 2);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(mmio_in(&fake, table + 16 * i + 12, 4), 1);
	mmio_out(&fake, table + 16, 8, 0xfee01000);
	mmio_out(&fake, table + 24, 4, 0x41);
	pci_msix_raise(&f, 1); /* not enabled: lost */
	config_out(1, f.msix.capability + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	mmio_out(&fake, table + 28, 4, 0);
	assert_int_equal(fake.messages, 0);
	pci_msix_raise(&f, 1); /* not a master: waits */
	assert_int_equal(fake.messages, 0);
	config_out(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(fake.messages, 1);
	assert_int_equal(fake.message_address, 0xfee01000);
	assert_int_equal(fake.message_data, 0x41);
	pci_msix_raise(&f, 1);
	assert_int_equal(fake.messages, 2);
	/* Masked alone; then all. */
	mmio_out(&fake, table + 28, 4, UINT32_MAX);
	assert_int_equal(mmio_in(&fake, table + 28, 4), 1);
	pci_msix_raise(&f, 1);
	pci_msix_raise(&f, 1);
	assert_int_equal(mmio_in(&fake, table + 2048, 8), 2);
	assert_int_equal(fake.messages, 2);
	config_out(1, f.msix.capability + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	mmio_out(&fake, table + 24, 8, 0x42);
	assert_int_equal(fake.messages, 2);
	config_out(1, f.msix.capability + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(fake.messages, 3); /* two are one */
	assert_int_equal(fake.message_data, 0x42);
	assert_int_equal(mmio_in(&fake, table + 2048, 8), 0);
	/* Beyond the table nothing is. */
	mmio_out(&fake, table + 48, 8, UINT64_MAX);
	mmio_out(&fake, table + 2048, 8, UINT64_MAX);
	mmio_out(&fake, table + 4088, 8, UINT64_MAX);
	assert_int_equal(mmio_in(&fake, table + 48, 8), 0);
	pci_msix_raise(&f, 3);
	pci_msix_raise(&f, UINT16_MAX);
	assert_int_equal(fake.messages, 3);
	close_bus();
}

static uint32_t level_read(void *device, uint16_t port, unsigned size)
{
	return *(uint8_t *)device;
}

static void level_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	*(uint8_t *)device = (uint8_t)value;
}

static void lines_are_level_triggered(void **state)
{
	static const struct port_ops ops = { .widest = 1, .read = level_read, .write = level_write };
	uint8_t elcr = 0;

	fake_bus_open(&fake);
	fake.bus.map_mmio = map;
	assert_int_equal(port_register(&fake.bus, 0x4d1, 1, &ops, &elcr, "elcr"), OK);
	assert_int_equal(pci_create(&fake.bus, &pci), OK);
	assert_int_equal(elcr, 0x0c);
	elcr = 0;
	pci_reset(pci);
	assert_int_equal(elcr, 0x0c);
	close_bus();
}

static void creation_fails(void **state)
{
	struct pci *none = NULL;

	fake_bus_open(&fake);
	fake.bus.map_mmio = map;
	heap_budget = 0;
	assert_int_equal(pci_create(&fake.bus, &none), NO_MEMORY);
	heap_budget = 1; /* not the port table's page */
	assert_int_equal(pci_create(&fake.bus, &none), NO_MEMORY);
	heap_budget = -1;
	assert_null(none);
	assert_int_equal(pci_create(&fake.bus, &pci), OK);
	assert_int_equal(pci_create(&fake.bus, &none), CONFLICT);
	close_bus();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ways_agree),       cmocka_unit_test(bars_move),
		cmocka_unit_test(read_only_stays),  cmocka_unit_test(slots_run_out),
		cmocka_unit_test(lines_are_shared), cmocka_unit_test(messages),
		cmocka_unit_test(creation_fails),   cmocka_unit_test(lines_are_level_triggered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
