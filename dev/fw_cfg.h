/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's firmware configuration device by ports 0x510 and 0x511, without DMA (QEMU docs/specs/fw_cfg). */
#pragma once

#include "dev/bus.h"

#define FW_CFG_NAME_SIZE 56u /* with its NUL */
#define FW_CFG_FILES 16u

struct fw_cfg;

/* ram_size in bytes; no processor has an APIC id of apic_ids or more. NO_MEMORY, CONFLICT. */
enum status fw_cfg_create(struct bus *bus, uint64_t ram_size, uint16_t cpus, uint16_t apic_ids,
			  struct fw_cfg **out) must_check;
/* The files stay. */
void fw_cfg_reset(struct fw_cfg *fw_cfg);
/*
 * Adds a file to the directory. The name is copied; data belongs to the caller and must live as long as the device.
 * BAD_VALUE (name empty or too long), CONFLICT (name taken), LIMIT.
 */
enum status fw_cfg_add(struct fw_cfg *fw_cfg, const char *name, const void *data, uint32_t size) must_check;
