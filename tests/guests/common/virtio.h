/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver of virtio's devices on the PCI bus, as small as it can be: no interrupts, one request at a time, each waited for, no feature
 * but VERSION_1. Virtual I/O Device (VIRTIO) 1.2, sections 2.7, 3.1 and 4.1. For guests whose memory is mapped one to one.
 */
#pragma once

#include "guest.h"

#define VIRTIO_BALLOON 5u
#define VIRTIO_MEM 24u
#define VIRTIO_QUEUE 8u              /* descriptors */
#define VIRTIO_PATIENCE (1ull << 36) /* of the time stamp counter: seconds, though others have the processor */

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define CAPABILITY_VENDOR 9u
#define DESCRIPTOR_NEXT 1u
#define DESCRIPTOR_WRITE 2u

struct virtio_queue {
	struct {
		uint64_t address;
		uint32_t length;
		uint16_t flags, next;
	} descriptor[VIRTIO_QUEUE];
	struct {
		uint16_t flags, index, ring[VIRTIO_QUEUE];
	} available;
	struct {
		uint16_t flags, index;
		uint32_t ring[VIRTIO_QUEUE][2];
	} __attribute__((aligned(4))) used;
	volatile uint16_t *notify;
} __attribute__((aligned(PAGE)));

/* Where things are; 0: nowhere. */
struct virtio_device {
	uint32_t slot, common, notify, notify_step, config;
};

static inline uint32_t pci_config(unsigned slot, unsigned offset)
{
	out32(CONFIG_ADDRESS, 0x80000000u | slot << 11 | offset);
	return in32(CONFIG_DATA);
}

static inline uint32_t virtio_config(const struct virtio_device *d, uint32_t at)
{
	return *(volatile uint32_t *)(uintptr_t)(d->config + at);
}

static inline void virtio_config_set(const struct virtio_device *d, uint32_t at, uint32_t value)
{
	*(volatile uint32_t *)(uintptr_t)(d->config + at) = value;
}

static inline void virtio_set(const struct virtio_device *d, uint32_t at, uint16_t value)
{
	*(volatile uint16_t *)(uintptr_t)(d->common + at) = value;
}

static inline void virtio_set_long(const struct virtio_device *d, uint32_t at, uint32_t value)
{
	*(volatile uint32_t *)(uintptr_t)(d->common + at) = value;
}

static inline void virtio_set_status(const struct virtio_device *d, uint8_t value)
{
	*(volatile uint8_t *)(uintptr_t)(d->common + 20) = value;
}

/* Finds the device and resets it; its queues are to be opened before virtio_begin(). */
static inline bool virtio_open(uint32_t kind, struct virtio_device *d)
{
	*d = (struct virtio_device){ 0 };
	while (d->slot < 32 && pci_config(d->slot, 0) != ((0x1040 + kind) << 16 | 0x1af4))
		d->slot++;
	for (uint32_t at = d->slot < 32 ? pci_config(d->slot, 0x34) & 0xff : 0, word; at; at = word >> 8 & 0xff) {
		uint32_t place;

		word = pci_config(d->slot, at);
		if ((word & 0xff) != CAPABILITY_VENDOR)
			continue;
		place = (pci_config(d->slot, 0x10 + 4 * (pci_config(d->slot, at + 4) & 7)) & ~15u) +
			pci_config(d->slot, at + 8);
		switch (word >> 24) {
		case 1: d->common = place; break;
		case 2:
			d->notify = place;
			d->notify_step = pci_config(d->slot, at + 16);
			break;
		case 4: d->config = place;
		}
	}
	if (!check(d->common && d->notify))
		return false;
	out32(CONFIG_ADDRESS, 0x80000000u | d->slot << 11 | 4);
	out16(CONFIG_DATA, 6); /* memory, bus master */
	virtio_set_status(d, 0);
	virtio_set_status(d, 3);
	virtio_set_long(d, 8, 1); /* VERSION_1 is bit 32 */
	virtio_set_long(d, 12, 1);
	virtio_set_status(d, 11);
	return true;
}

static inline void virtio_open_queue(const struct virtio_device *d, uint16_t index, struct virtio_queue *q)
{
	virtio_set(d, 22, index);
	virtio_set(d, 24, VIRTIO_QUEUE);
	virtio_set_long(d, 32, (uint32_t)(uintptr_t)q->descriptor);
	virtio_set_long(d, 40, (uint32_t)(uintptr_t)&q->available);
	virtio_set_long(d, 48, (uint32_t)(uintptr_t)&q->used);
	q->notify =
		(volatile uint16_t *)(uintptr_t)(d->notify +
						 d->notify_step * *(volatile uint16_t *)(uintptr_t)(d->common + 30));
	q->available.flags = 1; /* no interrupts */
	virtio_set(d, 28, 1);
}

static inline void virtio_begin(const struct virtio_device *d)
{
	virtio_set_status(d, 15);
}

/* Until the host has done it. answer: NULL, or room for what it writes. */
static inline void virtio_do(struct virtio_queue *q, uint16_t index, const void *request, uint32_t size, void *answer,
			     uint32_t room)
{
	q->descriptor[0].address = (uintptr_t)request;
	q->descriptor[0].length = size;
	q->descriptor[0].flags = answer ? DESCRIPTOR_NEXT : 0;
	q->descriptor[0].next = 1;
	q->descriptor[1].address = (uintptr_t)answer;
	q->descriptor[1].length = room;
	q->descriptor[1].flags = DESCRIPTOR_WRITE;
	q->available.ring[q->available.index % VIRTIO_QUEUE] = 0;
	__atomic_store_n(&q->available.index, q->available.index + 1, __ATOMIC_RELEASE);
	*q->notify = index;
	for (uint64_t start = rdtsc(); __atomic_load_n(&q->used.index, __ATOMIC_ACQUIRE) != q->available.index;)
		if (!check(rdtsc() - start < VIRTIO_PATIENCE))
			guest_exit(EXIT_FAILED);
}
