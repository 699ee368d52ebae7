/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-mem's one queue: a request of 24 bytes, an answer of 10. A request that isn't about whole blocks of the region, or
 * blocks that aren't all as it supposes, is answered ERROR and changes nothing; one that goes beyond what is wanted, NACK; one for which
 * the host has no memory, BUSY.
 *
 * A driver that starts anew finds plugged what was plugged: blocks live longer than drivers.
 */
#include "dev/virtio/mem.h"

#include <linux/virtio_ids.h>
#include <linux/virtio_mem.h>
#include <string.h>

#include "dev/virtio/virtio.h"

struct vmem {
	struct virtio virtio;
	const struct vmem_memory *memory;
	void *context; /* of it */
	struct virtio_mem_config config;
	uint64_t blocks;
	uint8_t plugged[]; /* a bit for each block */
};

_Static_assert(offsetof(struct vmem, virtio) == 0, "the device is where its virtio is");
_Static_assert(sizeof(struct virtio_mem_req) == 24 && sizeof(struct virtio_mem_resp) == 10, "as the guest sees them");

static uint64_t size_of(uint64_t blocks)
{
	return sizeof(struct vmem) + (blocks + 7) / 8;
}

/* How many of the blocks are plugged. */
static uint64_t count(const struct vmem *m, uint64_t first, uint64_t blocks)
{
	uint64_t found = 0;

	for (uint64_t i = first; i < first + blocks; i++)
		found += m->plugged[i / 8] >> (i % 8) & 1;
	return found;
}

static void mark(struct vmem *m, uint64_t first, uint64_t blocks, bool plugged)
{
	for (uint64_t i = first; i < first + blocks; i++)
		m->plugged[i / 8] = (uint8_t)((m->plugged[i / 8] & ~BIT(i % 8)) | (uint64_t)plugged << i % 8);
	m->config.plugged_size += (plugged ? blocks : 0 - blocks) * VMEM_BLOCK;
}

static uint16_t change(struct vmem *m, uint64_t first, uint64_t blocks, bool plug)
{
	gpa_t where = gpa(m->config.addr + first * VMEM_BLOCK);
	uint64_t size = blocks * VMEM_BLOCK;

	if (count(m, first, blocks) != (plug ? 0 : blocks))
		return VIRTIO_MEM_RESP_ERROR;
	if (plug && m->config.plugged_size + size > m->config.requested_size)
		return VIRTIO_MEM_RESP_NACK;
	if ((plug ? m->memory->plug : m->memory->unplug)(m->context, where, size) != OK)
		return VIRTIO_MEM_RESP_BUSY;
	mark(m, first, blocks, plug);
	return VIRTIO_MEM_RESP_ACK;
}

/* Run by run: one that can't be unplugged leaves those before it so. */
static uint16_t unplug_all(struct vmem *m)
{
	for (uint64_t first = 0, end; first < m->blocks; first = end) {
		bool plugged = count(m, first, 1);

		for (end = first + 1; end < m->blocks && count(m, end, 1) == plugged;)
			end++;
		if (plugged && change(m, first, end - first, false) != VIRTIO_MEM_RESP_ACK)
			return VIRTIO_MEM_RESP_BUSY;
	}
	return VIRTIO_MEM_RESP_ACK;
}

static uint16_t state_of(const struct vmem *m, uint64_t first, uint64_t blocks)
{
	uint64_t plugged = count(m, first, blocks);

	if (!plugged)
		return VIRTIO_MEM_STATE_UNPLUGGED;
	return plugged == blocks ? VIRTIO_MEM_STATE_PLUGGED : VIRTIO_MEM_STATE_MIXED;
}

/* Plug, unplug and state name blocks in the same place. */
static bool names_blocks(const struct vmem *m, const struct virtio_mem_req *r, uint64_t *first)
{
	uint64_t offset = r->u.plug.addr - m->config.addr;

	*first = offset / VMEM_BLOCK;
	return r->u.plug.addr >= m->config.addr && !(offset % VMEM_BLOCK) && r->u.plug.nb_blocks &&
	       *first < m->blocks && r->u.plug.nb_blocks <= m->blocks - *first;
}

static struct virtio_mem_resp answer(struct vmem *m, const struct virtio_mem_req *r)
{
	struct virtio_mem_resp resp = { .type = VIRTIO_MEM_RESP_ERROR };
	uint64_t first;

	if (r->type == VIRTIO_MEM_REQ_UNPLUG_ALL) {
		resp.type = unplug_all(m);
	} else if (r->type <= VIRTIO_MEM_REQ_STATE && names_blocks(m, r, &first)) {
		resp.type = VIRTIO_MEM_RESP_ACK;
		if (r->type == VIRTIO_MEM_REQ_STATE)
			resp.u.state.state = state_of(m, first, r->u.plug.nb_blocks);
		else
			resp.type = change(m, first, r->u.plug.nb_blocks, r->type == VIRTIO_MEM_REQ_PLUG);
	}
	return resp;
}

/* Room for the answer first: what was done must be told. */
static enum status serve(struct virtio *v, unsigned queue, const struct virtio_chain *chain, uint32_t *written)
{
	struct virtio_mem_resp resp = { 0 };
	struct virtio_mem_req request;
	size_t done, room;

	TRY(virtio_read(v, chain, 0, &request, sizeof(request), &done));
	TRY(virtio_write(v, chain, 0, &resp, sizeof(resp), &room));
	if (done < sizeof(request) || room < sizeof(resp))
		return BAD_FORMAT;
	resp = answer((struct vmem *)v, &request);
	*written = sizeof(resp);
	return virtio_write(v, chain, 0, &resp, sizeof(resp), &room) == OK ? OK : BAD_STATE;
}

/* Blocks stay plugged, and what is requested too. */
static void forget(struct virtio *v)
{
}

static const struct virtio_model model = { .name = "virtio mem",
					   .id = VIRTIO_ID_MEM,
					   .queues = 1,
					   .config_size = sizeof(struct virtio_mem_config),
					   .serve = serve,
					   .reset = forget };

enum status vmem_request(struct vmem *m, uint64_t bytes)
{
	if (bytes % VMEM_BLOCK || bytes > m->config.region_size)
		return BAD_VALUE;
	m->config.requested_size = bytes;
	virtio_config_changed(&m->virtio);
	return OK;
}

void vmem_describe(const struct vmem *m, struct vmem_info *info)
{
	*info = (struct vmem_info){ .ready = m->virtio.status & VIRTIO_CONFIG_S_DRIVER_OK,
				    .region = m->config.region_size,
				    .requested = m->config.requested_size,
				    .plugged = m->config.plugged_size };
}

void vmem_reset(struct vmem *m)
{
	memset(m->plugged, 0, (m->blocks + 7) / 8);
	m->config.plugged_size = 0;
	virtio_reset(&m->virtio);
}

enum status vmem_create(struct bus *bus, struct pci *pci, const struct vmem_memory *memory, void *context, gpa_t base,
			uint64_t size, struct vmem **out)
{
	struct vmem *m = device_alloc(bus, size_of(size / VMEM_BLOCK));

	if (!m)
		return NO_MEMORY;
	m->memory = memory;
	m->context = context;
	m->blocks = size / VMEM_BLOCK;
	m->config = (struct virtio_mem_config){
		.block_size = VMEM_BLOCK, .addr = base.v, .region_size = size, .usable_region_size = size
	};
	TRY(virtio_open(&m->virtio, pci, &model, &m->config));
	*out = m;
	return OK;
}
