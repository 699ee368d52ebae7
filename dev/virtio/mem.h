/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-mem: memory that a machine gets and gives back in blocks of 2 MiB, in a region of its own above its RAM. The device keeps
 * which blocks are plugged, so that a guest can't plug or unplug one twice; what that means for memory is its maker's.
 * Manual: VIRTIO 1.2 section 5.15.
 */
#pragma once

#include "dev/pci/pci.h"

#define VMEM_BLOCK (UINT64_C(2) << 20)

struct vmem;

/* Whole blocks, of the region, each in the other state before. Any error: nothing has changed, and the guest may try again. */
struct vmem_memory {
	enum status (*plug)(void *context, gpa_t where, uint64_t size);
	enum status (*unplug)(void *context, gpa_t where, uint64_t size);
};

struct vmem_info {
	bool ready; /* a driver is there */
	uint64_t region, requested, plugged;
};

/* A region of whole blocks; all of it unplugged, nothing requested. NO_MEMORY, LIMIT. */
enum status vmem_create(struct bus *bus, struct pci *pci, const struct vmem_memory *memory, void *context, gpa_t base,
			uint64_t size, struct vmem **out) must_check;
/* All is unplugged, without asking: its memory was reset. What is requested stays. */
void vmem_reset(struct vmem *vmem);
/* So many bytes are to be plugged: whole blocks, at most the region (BAD_VALUE). The guest does it when it likes. */
enum status vmem_request(struct vmem *vmem, uint64_t bytes) must_check;
void vmem_describe(const struct vmem *vmem, struct vmem_info *info);
