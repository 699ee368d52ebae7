/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver for virtio devices on a fake bus: memory of the guest's, rings in it, the steps of initialisation, and chains put there,
 * good ones and others. No cmocka here: fuzz targets use it, too.
 */
#pragma once

#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "common/fake_bus.h"
#include "dev/virtio/virtio.h"
#include "lib/bits.h"

#define GUEST_MEMORY (1u << 20)
#define RING_SIZE 16u
#define RINGS(queue) (0x10000u + (queue)*0x4000u)
#define BUFFERS 0x80000u

static uint8_t guest[GUEST_MEMORY];
static struct fake_bus fake;
static struct pci *pci;
static uint64_t registers; /* where BAR 0 is */
static uint32_t driver_slot;

#define REGISTER(name) (registers + offsetof(struct virtio_pci_common_cfg, name))
#define UNUSED __attribute__((unused)) static

UNUSED void config_out(unsigned offset, unsigned size, uint32_t value)
{
	port_write(&fake.bus, 0xcf8, 4, 0x80000000u | driver_slot << 11 | (offset & 0xfc));
	port_write(&fake.bus, (uint16_t)(0xcfc + offset % 4), size, value);
}

UNUSED uint32_t config_in(unsigned offset, unsigned size)
{
	port_write(&fake.bus, 0xcf8, 4, 0x80000000u | driver_slot << 11 | (offset & 0xfc));
	return port_read(&fake.bus, (uint16_t)(0xcfc + offset % 4), size);
}

UNUSED void out(uint64_t where, unsigned size, uint64_t value)
{
	mmio_out(&fake, where, size, value);
}

UNUSED uint64_t in(uint64_t where, unsigned size)
{
	return mmio_in(&fake, where, size);
}

/* A bus with memory; the device comes next. */
UNUSED void driver_bus(void)
{
	fake_bus_open(&fake);
	memset(guest, 0, sizeof(guest));
	fake.memory = guest;
	fake.memory_size = sizeof(guest);
	if (pci_create(&fake.bus, &pci) != OK)
		abort();
	driver_slot = 1;
}

UNUSED uint8_t status_of(void)
{
	return (uint8_t)in(REGISTER(device_status), 1);
}

UNUSED void accept(uint64_t features)
{
	for (unsigned i = 0; i < 2; i++) {
		out(REGISTER(guest_feature_select), 4, i);
		out(REGISTER(guest_feature), 4, (uint32_t)(features >> (32 * i)));
	}
}

UNUSED uint64_t offered(void)
{
	uint64_t features = 0;

	for (unsigned i = 0; i < 2; i++) {
		out(REGISTER(device_feature_select), 4, i);
		features |= in(REGISTER(device_feature), 4) << (32 * i);
	}
	return features;
}

UNUSED void enable_queue(unsigned queue)
{
	out(REGISTER(queue_select), 2, queue);
	out(REGISTER(queue_size), 2, RING_SIZE);
	out(REGISTER(queue_desc_lo), 4, RINGS(queue));
	out(REGISTER(queue_avail_lo), 4, RINGS(queue) + 0x1000);
	out(REGISTER(queue_used_lo), 4, RINGS(queue) + 0x2000);
	out(REGISTER(queue_enable), 2, 1);
}

/* Up to FEATURES_OK, with queues, and DRIVER_OK. */
UNUSED void driver_start(uint64_t features, unsigned queues)
{
	config_out(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	registers = config_in(PCI_BASE_ADDRESS_0, 4);
	out(REGISTER(device_status), 1, 0);
	out(REGISTER(device_status), 1, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	accept(features);
	out(REGISTER(device_status), 1, 11);
	for (unsigned i = 0; i < queues; i++)
		enable_queue(i);
	out(REGISTER(device_status), 1, 15);
}

UNUSED struct vring_desc *descriptor(unsigned queue, unsigned n)
{
	return (struct vring_desc *)(guest + RINGS(queue)) + n;
}

UNUSED uint16_t *available(unsigned queue)
{
	return (uint16_t *)(guest + RINGS(queue) + 0x1000);
}

UNUSED uint16_t *used(unsigned queue)
{
	return (uint16_t *)(guest + RINGS(queue) + 0x2000);
}

UNUSED struct vring_used_elem *used_entry(unsigned queue, uint16_t n)
{
	return (struct vring_used_elem *)(used(queue) + 2) + n % RING_SIZE;
}

UNUSED void set(struct vring_desc *d, uint64_t address, uint32_t length, uint16_t flags, uint16_t next)
{
	*d = (struct vring_desc){ .addr = address, .len = length, .flags = flags, .next = next };
}

UNUSED void offer(unsigned queue, uint16_t head)
{
	uint16_t *ring = available(queue);

	ring[2 + ring[1] % RING_SIZE] = head;
	ring[1]++;
}

UNUSED void notify(unsigned queue)
{
	out(registers + VIRTIO_AT_NOTIFY + VIRTIO_NOTIFY_STRIDE * queue, 2, queue);
}
