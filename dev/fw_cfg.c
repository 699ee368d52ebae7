/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest writes a 16-bit key to the selector and reads that item byte by byte; what lies past its end, and every
 * key that isn't there, reads 0; so does the directory of files, for there are none. Items are read only.
 */
#include "dev/fw_cfg.h"

#define SELECTOR_PORT 0x510
#define DATA_PORT 0x511
#define KEY_SIGNATURE 0x00u
#define KEY_FEATURES 0x01u
#define KEY_RAM_SIZE 0x03u
#define KEY_CPUS 0x05u
#define KEY_MAX_CPUS 0x0fu
#define FEATURE_PORTS 1u /* bit 1 would be DMA */

struct fw_cfg {
	struct bus *bus;
	uint16_t key;
	uint32_t offset;
	uint8_t ram_size[8], cpus[2], max_cpus[2]; /* little-endian */
};

struct item {
	const uint8_t *data;
	uint32_t size;
};

static struct item find_item(const struct fw_cfg *fw_cfg)
{
	static const uint8_t signature[4] = { 'Q', 'E', 'M', 'U' };
	static const uint8_t features[4] = { FEATURE_PORTS };

	switch (fw_cfg->key) {
	case KEY_SIGNATURE: return (struct item){ signature, sizeof(signature) };
	case KEY_FEATURES: return (struct item){ features, sizeof(features) };
	case KEY_RAM_SIZE: return (struct item){ fw_cfg->ram_size, sizeof(fw_cfg->ram_size) };
	case KEY_CPUS: return (struct item){ fw_cfg->cpus, sizeof(fw_cfg->cpus) };
	case KEY_MAX_CPUS: return (struct item){ fw_cfg->max_cpus, sizeof(fw_cfg->max_cpus) };
	default: return (struct item){ NULL, 0 };
	}
}

static uint32_t data_read(void *device, uint16_t port, unsigned size)
{
	struct fw_cfg *fw_cfg = device;
	struct item item = find_item(fw_cfg);

	return fw_cfg->offset < item.size ? item.data[fw_cfg->offset++] : 0;
}

static void data_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
}

static uint32_t selector_read(void *device, uint16_t port, unsigned size)
{
	return UINT32_MAX;
}

static void selector_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct fw_cfg *fw_cfg = device;

	fw_cfg->key = (uint16_t)value;
	fw_cfg->offset = 0;
}

static const struct port_ops selector_ops = { .widest = 2, .read = selector_read, .write = selector_write };
static const struct port_ops data_ops = { .widest = 1, .read = data_read, .write = data_write };

static void store_little(uint8_t *to, unsigned bytes, uint64_t value)
{
	for (unsigned i = 0; i < bytes; i++)
		to[i] = (uint8_t)(value >> (8 * i));
}

void fw_cfg_reset(struct fw_cfg *fw_cfg)
{
	fw_cfg->key = 0;
	fw_cfg->offset = 0;
}

enum status fw_cfg_create(struct bus *bus, uint64_t ram_size, uint16_t cpus, uint16_t apic_ids, struct fw_cfg **out)
{
	struct fw_cfg *fw_cfg = device_alloc(bus, sizeof(*fw_cfg));

	if (!fw_cfg)
		return NO_MEMORY;
	fw_cfg->bus = bus;
	store_little(fw_cfg->ram_size, 8, ram_size);
	store_little(fw_cfg->cpus, 2, cpus);
	store_little(fw_cfg->max_cpus, 2, apic_ids);
	TRY(port_register(bus, SELECTOR_PORT, 1, &selector_ops, fw_cfg, "fw_cfg selector"));
	TRY(port_register(bus, DATA_PORT, 1, &data_ops, fw_cfg, "fw_cfg data"));
	*out = fw_cfg;
	return OK;
}
