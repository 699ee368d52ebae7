/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest writes a 16-bit key to the selector and reads that item byte by byte; what lies past its end, and every
 * key that isn't there, reads 0. Items are read only. The directory is kept in the form in which it is read.
 */
#include "dev/fw_cfg.h"

#define SELECTOR_PORT 0x510
#define DATA_PORT 0x511
#define KEY_SIGNATURE 0x00u
#define KEY_FEATURES 0x01u
#define KEY_RAM_SIZE 0x03u
#define KEY_CPUS 0x05u
#define KEY_MAX_CPUS 0x0fu
#define KEY_DIRECTORY 0x19u
#define KEY_FIRST_FILE 0x20u
#define FEATURE_PORTS 1u /* bit 1 would be DMA */

/* Big-endian, as the guest reads it. */
struct directory {
	uint8_t count[4];
	struct {
		uint8_t size[4], key[2], reserved[2];
		char name[FW_CFG_NAME_SIZE];
	} files[FW_CFG_FILES];
};

_Static_assert(sizeof(struct directory) == 4 + 64 * FW_CFG_FILES, "an entry of the directory has 64 bytes");

struct fw_cfg {
	struct bus *bus;
	uint16_t key;
	uint32_t offset;
	uint8_t ram_size[8], cpus[2], max_cpus[2]; /* little-endian */
	unsigned file_count;
	const uint8_t *data[FW_CFG_FILES];
	uint32_t size[FW_CFG_FILES];
	struct directory directory;
};

struct item {
	const void *data;
	uint32_t size;
};

static struct item find_item(const struct fw_cfg *fw_cfg)
{
	static const uint8_t signature[4] = { 'Q', 'E', 'M', 'U' };
	static const uint8_t features[4] = { FEATURE_PORTS };
	unsigned file = fw_cfg->key - KEY_FIRST_FILE;

	if (file < fw_cfg->file_count)
		return (struct item){ fw_cfg->data[file], fw_cfg->size[file] };
	switch (fw_cfg->key) {
	case KEY_SIGNATURE: return (struct item){ signature, sizeof(signature) };
	case KEY_FEATURES: return (struct item){ features, sizeof(features) };
	case KEY_RAM_SIZE: return (struct item){ fw_cfg->ram_size, sizeof(fw_cfg->ram_size) };
	case KEY_CPUS: return (struct item){ fw_cfg->cpus, sizeof(fw_cfg->cpus) };
	case KEY_MAX_CPUS: return (struct item){ fw_cfg->max_cpus, sizeof(fw_cfg->max_cpus) };
	case KEY_DIRECTORY: return (struct item){ &fw_cfg->directory, 4 + 64 * fw_cfg->file_count };
	default: return (struct item){ NULL, 0 };
	}
}

static uint32_t data_read(void *device, uint16_t port, unsigned size)
{
	struct fw_cfg *fw_cfg = device;
	struct item item = find_item(fw_cfg);

	return fw_cfg->offset < item.size ? ((const uint8_t *)item.data)[fw_cfg->offset++] : 0;
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

static void store_big(uint8_t *to, unsigned bytes, uint32_t value)
{
	for (unsigned i = 0; i < bytes; i++)
		to[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

static void store_little(uint8_t *to, unsigned bytes, uint64_t value)
{
	for (unsigned i = 0; i < bytes; i++)
		to[i] = (uint8_t)(value >> (8 * i));
}

static bool same_name(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

enum status fw_cfg_add(struct fw_cfg *fw_cfg, const char *name, const void *data, uint32_t size)
{
	unsigned index = fw_cfg->file_count, length = 0;

	while (length < FW_CFG_NAME_SIZE && name[length])
		length++;
	if (!length || length == FW_CFG_NAME_SIZE)
		return BAD_VALUE;
	for (unsigned i = 0; i < index; i++)
		if (same_name(fw_cfg->directory.files[i].name, name))
			return CONFLICT;
	if (index == FW_CFG_FILES)
		return LIMIT;
	fw_cfg->data[index] = data;
	fw_cfg->size[index] = size;
	store_big(fw_cfg->directory.files[index].size, 4, size);
	store_big(fw_cfg->directory.files[index].key, 2, KEY_FIRST_FILE + index);
	for (unsigned i = 0; i < length; i++)
		fw_cfg->directory.files[index].name[i] = name[i];
	store_big(fw_cfg->directory.count, 4, ++fw_cfg->file_count);
	return OK;
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
