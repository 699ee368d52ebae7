/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that a machine may get beyond its RAM (`memory_max`): a range of PGM's above all other, which the memory map doesn't tell of,
 * and a virtio-mem device that lets the guest have it block by block. What nobody has touched costs next to nothing.
 * What is unplugged holds nothing from then on.
 */
#include "vm/load/load.h"
#include "vm/machine/parts.h"
#include "vm/vcpu/vcpu.h"

#define REGION_ALIGNMENT (128 * MIB) /* a section of Linux' memory, which is what it adds and takes away at once */
#define TURN_PAGES (REGION_ALIGNMENT / PAGE_SIZE)

static enum status give(void *context, gpa_t where, uint64_t size)
{
	return OK;
}

/* Much of it takes several turns: those that are done already cost next to nothing. */
static enum status take(void *context, gpa_t where, uint64_t size)
{
	uint64_t pages = 0;

	for (uint64_t at = 0; at < size; at += PGM_DISCARD_MOST) {
		pages += pgm_discard(((struct machine *)context)->pgm, gpa(where.v + at), size - at);
		if (pages > TURN_PAGES)
			return NO_MEMORY;
	}
	return OK;
}

static const struct vmem_memory memory = { .plug = give, .unplug = take };

enum status board_open_vmem(struct machine *m)
{
	uint64_t ram = m->config->memory, below = 4 * GIB - m->config->ram_hole;
	uint64_t base = align_up(4 * GIB + (ram > below ? ram - below : 0), REGION_ALIGNMENT);

	if (m->config->memory_max <= ram)
		return OK;
	TRY(pgm_add_ram(m->pgm, gpa(base), m->config->memory_max - ram, LOAD_UNTOLD));
	return vmem_create(&m->bus, m->board->pci, &memory, m, gpa(base), m->config->memory_max - ram, &m->board->vmem);
}

enum status machine_memory(struct machine *m, uint64_t bytes, struct vmem_info *info)
{
	enum status status = OK;

	if (!m->board || !m->board->vmem)
		return NOT_SUPPORTED;
	HOLD(&m->lock);
	if (bytes)
		status =
			bytes < m->config->memory ? BAD_VALUE : vmem_request(m->board->vmem, bytes - m->config->memory);
	vmem_describe(m->board->vmem, info);
	return status;
}
