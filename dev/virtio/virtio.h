/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio 1.x over PCI, modern only: the transport that every virtio device of a machine shares. A device model embeds a struct
 * virtio, says what it is in a struct virtio_model, and is handed chains of buffers, each copied out of the guest's memory
 * once and checked. What the guest can't have meant (a loop, an address past the end, a ring that runs wild) stops the device
 * until the driver resets it, and touches nobody else.
 *
 * All under the device lock. Manual: Virtual I/O Device (VIRTIO) 1.2, sections 2 (rings), 3 (initialisation), 4.1 (PCI).
 */
#pragma once

#include "dev/pci/pci.h"

#define VIRTIO_QUEUES 5u
#define VIRTIO_QUEUE_SIZE 128u /* the most; also the most segments of a chain */
#define VIRTIO_CONFIG_VECTOR VIRTIO_QUEUES
#define VIRTIO_MAX_ADDRESS BITS(51, 0) /* no processor has more physical address bits */

struct virtio_queue {
	uint64_t ring[3]; /* descriptors, available, used */
	uint16_t size, vector;
	bool enabled;
	uint16_t next_available, next_used;
	uint16_t told_used; /* next_used when the guest was last told */
};

struct virtio_segment {
	uint64_t address;
	uint32_t length;
};

/* Readable segments, then writable ones. */
struct virtio_chain {
	uint16_t head;
	unsigned readable, count;
	struct virtio_segment segment[VIRTIO_QUEUE_SIZE];
};

struct virtio;

struct virtio_model {
	const char *name;
	uint16_t id; /* of linux/virtio_ids.h */
	uint16_t queues;
	uint64_t features; /* the device's own; the transport adds its */
	uint16_t config_size;
	/*
	 * A chain of queue `queue`; *written: bytes written to it, 0 at first. OK: done with; BUSY: the device keeps it and calls
	 * virtio_give() later; BAD_FORMAT: the guest can't have meant this. Any other: not now, it is served anew some
	 * time later.
	 */
	enum status (*serve)(struct virtio *v, unsigned queue, const struct virtio_chain *chain, uint32_t *written);
	/* The guest wrote to the device's configuration; inside it. May be NULL. */
	void (*config_write)(struct virtio *v, unsigned offset, unsigned size, uint32_t value);
	/* The driver starts anew: whatever the device keeps is forgotten. */
	void (*reset)(struct virtio *v);
};

/* Embedded in its device. */
struct virtio {
	const struct virtio_model *model;
	struct bus *bus;
	void *config; /* of the device's kind, config_size bytes, little-endian */
	struct pci_function function;
	uint64_t accepted; /* features, by the driver */
	uint32_t feature_select[2];
	uint16_t config_vector, queue_select;
	uint8_t status, generation, isr;
	unsigned window;  /* the capability by which the BAR is reached through configuration space */
	uint32_t waiting; /* queues to be served anew */
	bool late;        /* what is served now was offered some time ago, perhaps */
	struct dev_timer again;
	struct virtio_queue queue[VIRTIO_QUEUES];
	struct virtio_chain chain; /* the one that is served */
};

/* LIMIT: no slot. */
enum status virtio_open(struct virtio *v, struct pci *pci, const struct virtio_model *model, void *config) must_check;
/* As after power-on; the PCI function is reset by its bus. */
void virtio_reset(struct virtio *v);

static inline bool virtio_has(const struct virtio *v, unsigned feature)
{
	return v->accepted >> feature & 1;
}
/* The device has changed its configuration, and the driver shall look. */
void virtio_config_changed(struct virtio *v);
/* Bytes of the readable (or writable) segments from offset on; *done may be less than length at their end. */
enum status virtio_read(struct virtio *v, const struct virtio_chain *chain, uint64_t offset, void *to, size_t length,
			size_t *done) must_check;
enum status virtio_write(struct virtio *v, const struct virtio_chain *chain, uint64_t offset, const void *from,
			 size_t length, size_t *done) must_check;
/* A kept chain goes back. */
void virtio_give(struct virtio *v, unsigned queue, uint16_t head, uint32_t written);

/* ---- ring.c for transport.c ---- */
/* The next chain: OK; NOT_FOUND: none is there, and the guest will notify; BAD_FORMAT; or what reading memory said. */
enum status virtio_ring_take(struct virtio *v, struct virtio_queue *q, struct virtio_chain *chain) must_check;
enum status virtio_ring_give(struct virtio *v, struct virtio_queue *q, uint16_t head, uint32_t written) must_check;
/* Does the guest want to hear of what was given since this was last asked? */
bool virtio_ring_wants(struct virtio *v, struct virtio_queue *q);
/* Are the rings where rings may be? */
bool virtio_ring_is_sound(const struct virtio_queue *q);

/* ---- registers.c for transport.c, and the other way round ---- */
extern const struct mmio_ops virtio_registers;
#define VIRTIO_BAR_SIZE 4096u
#define VIRTIO_AT_COMMON 0x000u
#define VIRTIO_AT_ISR 0x100u
#define VIRTIO_AT_DEVICE 0x200u
#define VIRTIO_AT_NOTIFY 0x400u
#define VIRTIO_NOTIFY_STRIDE 4u
void virtio_set_status(struct virtio *v, uint8_t status);
void virtio_notified(struct virtio *v, unsigned queue);
/* The rings say what can't be: nothing more until a reset. */
void virtio_break(struct virtio *v);
uint64_t virtio_features(const struct virtio *v);
