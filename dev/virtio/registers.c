/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the driver reads and writes: common configuration, interrupt status, the device's own configuration, and notifications, all in
 * one page of BAR 0. Reads come out of a picture of the registers; writes go by field, each with its own width (a wider
 * one counts as several, another is none).
 *
 * Manual: VIRTIO 1.2 sections 4.1.4.3 to 4.1.4.6.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <string.h>

#include "dev/virtio/virtio.h"

#define FIELD(name) offsetof(struct virtio_pci_common_cfg, name)
enum { DEVICE, DRIVER };

_Static_assert(sizeof(struct virtio_pci_common_cfg) <= VIRTIO_AT_ISR, "the structures lie apart");
_Static_assert(VIRTIO_AT_NOTIFY + VIRTIO_QUEUES * VIRTIO_NOTIFY_STRIDE <= VIRTIO_BAR_SIZE, "inside the BAR");

/* The one that the driver has selected; NULL: there is none. */
static struct virtio_queue *selected(struct virtio *v)
{
	return v->queue_select < v->model->queues ? &v->queue[v->queue_select] : NULL;
}

static uint32_t half(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

static void picture(struct virtio *v, struct virtio_pci_common_cfg *c)
{
	const struct virtio_queue *q = selected(v);

	*c = (struct virtio_pci_common_cfg){
		.device_feature_select = v->feature_select[DEVICE],
		.device_feature = half(virtio_features(v), v->feature_select[DEVICE]),
		.guest_feature_select = v->feature_select[DRIVER],
		.guest_feature = half(v->accepted, v->feature_select[DRIVER]),
		.msix_config = v->config_vector,
		.num_queues = v->model->queues,
		.device_status = v->status,
		.config_generation = v->generation,
		.queue_select = v->queue_select,
		.queue_notify_off = v->queue_select,
	};
	if (!q)
		return;
	c->queue_size = q->size;
	c->queue_msix_vector = q->vector;
	c->queue_enable = q->enabled;
	memcpy(&c->queue_desc_lo, q->ring, sizeof(q->ring));
}
_Static_assert(FIELD(queue_used_hi) + 4 - FIELD(queue_desc_lo) == sizeof(((struct virtio_queue *)0)->ring),
	       "the rings' addresses stand in a row");

static uint8_t read_isr(struct virtio *v)
{
	uint8_t isr = v->isr;

	v->isr = 0;
	pci_set_line(&v->function, false);
	return isr;
}

static uint64_t registers_read(void *device, uint64_t offset, unsigned size)
{
	struct virtio *v = device;
	struct virtio_pci_common_cfg c;
	uint64_t value = 0;

	if (offset + size <= sizeof(c)) {
		picture(v, &c);
		memcpy(&value, (const uint8_t *)&c + offset, size);
	} else if (offset == VIRTIO_AT_ISR) {
		value = read_isr(v);
	} else if (offset >= VIRTIO_AT_DEVICE && offset + size <= VIRTIO_AT_DEVICE + v->model->config_size) {
		memcpy(&value, (const uint8_t *)v->config + (offset - VIRTIO_AT_DEVICE), size);
	}
	return value;
}

/* Of the sizes that the device can do: powers of two up to the one it offers. */
static void set_size(struct virtio_queue *q, uint32_t size)
{
	if (size && size <= VIRTIO_QUEUE_SIZE && !(size & (size - 1)))
		q->size = (uint16_t)size;
}

static void enable(struct virtio *v, struct virtio_queue *q)
{
	q->enabled = virtio_ring_is_sound(q);
	if (!q->enabled)
		virtio_break(v);
}

/* A vector that isn't there reads back as none, by which the driver sees that it has not got it. */
static uint16_t vector(uint32_t value)
{
	return value <= VIRTIO_CONFIG_VECTOR ? (uint16_t)value : VIRTIO_MSI_NO_VECTOR;
}

static void write_queue(struct virtio *v, struct virtio_queue *q, unsigned field, uint32_t value)
{
	unsigned word = (field - FIELD(queue_desc_lo)) / 4;

	if (field == FIELD(queue_msix_vector))
		q->vector = vector(value);
	if (q->enabled)
		return;
	if (field == FIELD(queue_size))
		set_size(q, value);
	else if (field == FIELD(queue_enable) && value == 1)
		enable(v, q);
	else if (field >= FIELD(queue_desc_lo))
		q->ring[word / 2] = (q->ring[word / 2] & (word % 2 ? UINT32_MAX : ~(uint64_t)UINT32_MAX)) |
				    (uint64_t)value << (32 * (word % 2));
}

/* Only while they are talked about. */
static void accept(struct virtio *v, uint32_t value)
{
	unsigned shift = 32 * v->feature_select[DRIVER];

	if (v->feature_select[DRIVER] < 2 && !(v->status & VIRTIO_CONFIG_S_FEATURES_OK))
		v->accepted = (v->accepted & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value << shift;
}

static void write_common(struct virtio *v, unsigned field, uint32_t value)
{
	struct virtio_queue *q = selected(v);

	switch (field) {
	case FIELD(device_feature_select): v->feature_select[DEVICE] = value; break;
	case FIELD(guest_feature_select): v->feature_select[DRIVER] = value; break;
	case FIELD(guest_feature): accept(v, value); break;
	case FIELD(msix_config): v->config_vector = vector(value); break;
	case FIELD(device_status): virtio_set_status(v, (uint8_t)value); break;
	case FIELD(queue_select): v->queue_select = (uint16_t)value; break;
	default:
		if (q && field >= FIELD(queue_size))
			write_queue(v, q, field, value);
	}
}

static unsigned width(unsigned field)
{
	if (field == FIELD(device_status) || field == FIELD(config_generation))
		return 1;
	return (field >= FIELD(msix_config) && field < FIELD(queue_desc_lo)) ? 2 : 4;
}

static void registers_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct virtio *v = device;

	if (offset + size <= sizeof(struct virtio_pci_common_cfg)) {
		for (unsigned at = 0, step; at < size; at += step, value >>= 8 * step) {
			step = width((unsigned)offset + at);
			if ((offset + at) % step || at + step > size)
				return;
			write_common(v, (unsigned)offset + at, (uint32_t)(value & byte_mask(step)));
		}
	} else if (offset >= VIRTIO_AT_NOTIFY) {
		if ((offset - VIRTIO_AT_NOTIFY) / VIRTIO_NOTIFY_STRIDE < v->model->queues)
			virtio_notified(v, (unsigned)(offset - VIRTIO_AT_NOTIFY) / VIRTIO_NOTIFY_STRIDE);
	} else if (offset >= VIRTIO_AT_DEVICE && offset + size <= VIRTIO_AT_DEVICE + v->model->config_size) {
		if (v->model->config_write && size <= 4)
			v->model->config_write(v, (unsigned)offset - VIRTIO_AT_DEVICE, size, (uint32_t)value);
	}
}

const struct mmio_ops virtio_registers = { .read = registers_read, .write = registers_write };
