/* SPDX-License-Identifier: Apache-2.0 */
// sources: dev/ports.c dev/timer.c dev/pci/*.c dev/virtio/*.c
/*
 * virtio-mem: blocks plugged and unplugged once each, requests that aren't about blocks, beyond what is wanted or the region, a host
 * without memory, and a model of all blocks under random requests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/virtio_mem.h>

#include "common/virtio_driver.h"
#include "dev/virtio/mem.h"

#define VERSION BIT(VIRTIO_F_VERSION_1)
#define BASE (UINT64_C(4) << 30)
#define BLOCKS 37u
#define CONFIG(name) (registers + VIRTIO_AT_DEVICE + offsetof(struct virtio_mem_config, name))
#define RESPONSE (BUFFERS + 0x100)

static struct vmem *vmem;
static bool plugged[BLOCKS];
static bool short_of_memory;
extern long heap_live, heap_budget;

static enum status change(gpa_t where, uint64_t size, bool to)
{
	assert_true(where.v >= BASE && size && where.v % VMEM_BLOCK == 0 && size % VMEM_BLOCK == 0);
	assert_true(where.v + size <= BASE + BLOCKS * VMEM_BLOCK);
	if (short_of_memory)
		return NO_MEMORY;
	for (uint64_t i = (where.v - BASE) / VMEM_BLOCK; size; size -= VMEM_BLOCK, i++) {
		assert_int_equal(plugged[i], !to);
		plugged[i] = to;
	}
	return OK;
}

static enum status plug(void *context, gpa_t where, uint64_t size)
{
	assert_ptr_equal(context, &fake);
	return change(where, size, true);
}

static enum status unplug(void *context, gpa_t where, uint64_t size)
{
	return change(where, size, false);
}

static const struct vmem_memory memory = { plug, unplug };

static int open_device(void **state)
{
	driver_bus();
	memset(plugged, 0, sizeof(plugged));
	short_of_memory = false;
	assert_int_equal(vmem_create(&fake.bus, pci, &memory, &fake, gpa(BASE), BLOCKS * VMEM_BLOCK, &vmem), OK);
	driver_start(VERSION, 1);
	return 0;
}

static int close_device(void **state)
{
	fake_bus_close(&fake);
	return heap_live != 0;
}

/* The type of the answer, and the state in *more. */
static unsigned request(unsigned type, uint64_t address, unsigned blocks, uint16_t *more)
{
	struct virtio_mem_req r = { .type = (uint16_t)type,
				    .u.plug = { .addr = address, .nb_blocks = (uint16_t)blocks } };
	struct virtio_mem_resp resp;
	uint16_t before = used(0)[1];

	memcpy(guest + BUFFERS, &r, sizeof(r));
	memset(guest + RESPONSE, 0xee, sizeof(resp));
	set(descriptor(0, 0), BUFFERS, sizeof(r), VRING_DESC_F_NEXT, 1);
	set(descriptor(0, 1), RESPONSE, sizeof(resp), VRING_DESC_F_WRITE, 0);
	offer(0, 0);
	notify(0);
	assert_int_equal(used(0)[1], (uint16_t)(before + 1));
	assert_int_equal(used_entry(0, before)->len, sizeof(resp));
	memcpy(&resp, guest + RESPONSE, sizeof(resp));
	if (more)
		*more = resp.u.state.state;
	return resp.type;
}

static uint64_t block(unsigned n)
{
	return BASE + n * VMEM_BLOCK;
}

static void grows_and_shrinks(void **state)
{
	struct vmem_info info;
	uint16_t answer;

	assert_int_equal(in(CONFIG(block_size), 8), VMEM_BLOCK);
	assert_int_equal(in(CONFIG(addr), 8), BASE);
	assert_int_equal(in(CONFIG(region_size), 8), BLOCKS * VMEM_BLOCK);
	assert_int_equal(in(CONFIG(usable_region_size), 8), BLOCKS * VMEM_BLOCK);
	assert_int_equal(request(VIRTIO_MEM_REQ_PLUG, BASE, 1, NULL), VIRTIO_MEM_RESP_NACK);
	assert_int_equal(vmem_request(vmem, 10 * VMEM_BLOCK), OK);
	assert_true(fake.level[11]);
	assert_int_equal(in(CONFIG(requested_size), 8), 10 * VMEM_BLOCK);
	assert_int_equal(request(VIRTIO_MEM_REQ_PLUG, block(3), 8, NULL), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(in(CONFIG(plugged_size), 8), 8 * VMEM_BLOCK);
	assert_int_equal(request(VIRTIO_MEM_REQ_PLUG, block(20), 3, NULL), VIRTIO_MEM_RESP_NACK);
	assert_int_equal(request(VIRTIO_MEM_REQ_PLUG, block(20), 2, NULL), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(request(VIRTIO_MEM_REQ_STATE, block(3), 8, &answer), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(answer, VIRTIO_MEM_STATE_PLUGGED);
	assert_int_equal(request(VIRTIO_MEM_REQ_STATE, block(2), 2, &answer), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(answer, VIRTIO_MEM_STATE_MIXED);
	assert_int_equal(request(VIRTIO_MEM_REQ_STATE, block(22), 15, &answer), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(answer, VIRTIO_MEM_STATE_UNPLUGGED);
	assert_int_equal(request(VIRTIO_MEM_REQ_UNPLUG, block(5), 2, NULL), VIRTIO_MEM_RESP_ACK);
	assert_false(plugged[5] || plugged[6]);
	assert_true(plugged[4] && plugged[7]);
	vmem_describe(vmem, &info);
	assert_int_equal(info.plugged, 8 * VMEM_BLOCK);
	/* A driver that starts anew finds it so; a machine that is reset doesn't. */
	memset(guest, 0, sizeof(guest));
	driver_start(VERSION, 1);
	assert_int_equal(in(CONFIG(plugged_size), 8), 8 * VMEM_BLOCK);
	short_of_memory = true;
	assert_int_equal(request(VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0, NULL), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(request(VIRTIO_MEM_REQ_PLUG, BASE, 1, NULL), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(in(CONFIG(plugged_size), 8), 8 * VMEM_BLOCK);
	short_of_memory = false;
	assert_int_equal(request(VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0, NULL), VIRTIO_MEM_RESP_ACK);
	for (unsigned i = 0; i < BLOCKS; i++)
		assert_false(plugged[i]);
	assert_int_equal(request(VIRTIO_MEM_REQ_PLUG, BASE, 1, NULL), VIRTIO_MEM_RESP_ACK);
	vmem_reset(vmem);
	vmem_describe(vmem, &info);
	assert_true(!info.plugged && !info.ready && info.requested == 10 * VMEM_BLOCK);
}

static void what_is_no_block(void **state)
{
	static const struct {
		uint64_t address;
		unsigned blocks;
	} cases[] = { { BASE + 4096, 1 },
		      { BASE, 0 },
		      { BASE - VMEM_BLOCK, 1 },
		      { BASE - VMEM_BLOCK, 2 },
		      { BASE, BLOCKS + 1 },
		      { 0, 1 },
		      { BASE + BLOCKS * VMEM_BLOCK, 1 },
		      { BASE + (BLOCKS - 1) * VMEM_BLOCK, 2 },
		      { BASE, 65535 },
		      { UINT64_MAX - VMEM_BLOCK + 1, 1 } };

	assert_int_equal(vmem_request(vmem, BLOCKS * VMEM_BLOCK), OK);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		for (unsigned type = 0; type < 6; type++)
			if (type != VIRTIO_MEM_REQ_UNPLUG_ALL)
				assert_int_equal(request(type, cases[i].address, cases[i].blocks, NULL),
						 VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(request(4, BASE, 1, NULL), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(request(VIRTIO_MEM_REQ_UNPLUG, BASE, 1, NULL), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(request(VIRTIO_MEM_REQ_PLUG, BASE, 2, NULL), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(request(VIRTIO_MEM_REQ_PLUG, block(1), 2, NULL), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(request(VIRTIO_MEM_REQ_UNPLUG, block(1), 2, NULL), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(vmem_request(vmem, VMEM_BLOCK + 4096), BAD_VALUE);
	assert_int_equal(vmem_request(vmem, (BLOCKS + 1) * VMEM_BLOCK), BAD_VALUE);
	/* No room for the answer: nothing is done. */
	set(descriptor(0, 1), RESPONSE, sizeof(struct virtio_mem_resp) - 1, VRING_DESC_F_WRITE, 0);
	((struct virtio_mem_req *)(guest + BUFFERS))->u.plug.addr = block(9);
	((struct virtio_mem_req *)(guest + BUFFERS))->type = VIRTIO_MEM_REQ_PLUG;
	offer(0, 0);
	notify(0);
	assert_true(status_of() & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_false(plugged[9]);
}

static void random_requests(void **state)
{
	uint64_t seed = 4711, held = 0;

	assert_int_equal(vmem_request(vmem, 20 * VMEM_BLOCK), OK);
	for (unsigned i = 0; i < 20000; i++) {
		unsigned first, count, type;
		bool same = true;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		first = (unsigned)(seed >> 33) % BLOCKS;
		count = 1 + (unsigned)(seed >> 40) % 6;
		type = (unsigned)(seed >> 50) & 1;
		if (count > BLOCKS - first)
			count = BLOCKS - first;
		for (unsigned n = first; n < first + count; n++)
			same &= plugged[n] == (type == VIRTIO_MEM_REQ_UNPLUG);
		if (!same)
			assert_int_equal(request(type, block(first), count, NULL), VIRTIO_MEM_RESP_ERROR);
		else if (type == VIRTIO_MEM_REQ_PLUG && held + count > 20)
			assert_int_equal(request(type, block(first), count, NULL), VIRTIO_MEM_RESP_NACK);
		else {
			assert_int_equal(request(type, block(first), count, NULL), VIRTIO_MEM_RESP_ACK);
			held += type == VIRTIO_MEM_REQ_PLUG ? count : 0 - (uint64_t)count;
		}
		assert_int_equal(in(CONFIG(plugged_size), 8), held * VMEM_BLOCK);
	}
}

static void creation_fails(void **state)
{
	struct vmem *other = NULL;

	heap_budget = 0;
	assert_int_equal(vmem_create(&fake.bus, pci, &memory, &fake, gpa(BASE), VMEM_BLOCK, &other), NO_MEMORY);
	heap_budget = -1;
	assert_null(other);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, open_device, close_device)
	const struct CMUnitTest tests[] = { CASE(grows_and_shrinks), CASE(what_is_no_block), CASE(random_requests),
					    CASE(creation_fails) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
