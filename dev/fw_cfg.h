/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's firmware configuration device by ports 0x510 and 0x511, without DMA (QEMU docs/specs/fw_cfg). */
#pragma once

#include "dev/bus.h"

struct fw_cfg;

/* ram_size in bytes; no processor has an APIC id of apic_ids or more. NO_MEMORY, CONFLICT. */
enum status fw_cfg_create(struct bus *bus, uint64_t ram_size, uint16_t cpus, uint16_t apic_ids,
			  struct fw_cfg **out) must_check;
void fw_cfg_reset(struct fw_cfg *fw_cfg);
