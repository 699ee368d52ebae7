/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device's life: what it shows in configuration space, the driver's status byte, chains from the rings to the model, and
 * interrupts back.
 *
 * A notification serves so many chains and leaves the rest to a timer, so that a full ring holds nobody up. While the driver isn't
 * ready, or the guest has forbidden the function to reach memory, nothing is served; it is when that changes.
 *
 * Manual: VIRTIO 1.2 sections 2.1 (status), 3.1 (initialisation), 4.1.4 (capabilities), 4.1.5.3 (interrupts).
 */
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "dev/virtio/virtio.h"

#define VENDOR 0x1af4
#define DEVICE_BASE 0x1040
#define CLASS_OTHER 0x00ff00
#define CHAINS_AT_ONCE 8u
#define SOON_NS UINT64_C(1000)      /* the rest of a full ring */
#define LATER_NS UINT64_C(10000000) /* the host is short of memory */
#define ISR_QUEUE 1u
#define FEATURES (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX))

uint64_t virtio_features(const struct virtio *v)
{
	return v->model->features | FEATURES;
}

static bool is_live(const struct virtio *v)
{
	return (v->status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) == VIRTIO_CONFIG_S_DRIVER_OK;
}

static void interrupt(struct virtio *v, uint16_t vector, uint8_t cause)
{
	if (pci_msix_enabled(&v->function)) {
		pci_msix_raise(&v->function, vector);
		return;
	}
	v->isr |= cause;
	pci_set_line(&v->function, true);
}

void virtio_config_changed(struct virtio *v)
{
	v->generation++;
	if (v->status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(v, v->config_vector, VIRTIO_PCI_ISR_CONFIG);
}

void virtio_break(struct virtio *v)
{
	if (v->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	v->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	virtio_config_changed(v);
}

static void tell(struct virtio *v, struct virtio_queue *q)
{
	if (virtio_ring_wants(v, q))
		interrupt(v, q->vector, ISR_QUEUE);
}

static enum status serve_one(struct virtio *v, unsigned queue)
{
	struct virtio_queue *q = &v->queue[queue];
	uint32_t written = 0;
	enum status status;

	TRY(virtio_ring_take(v, q, &v->chain));
	status = v->model->serve(v, queue, &v->chain, &written);
	if (status != OK && status != BUSY)
		return status;
	q->next_available++;
	if (status == OK && virtio_ring_give(v, q, v->chain.head, written) != OK)
		return BAD_STATE; /* it was served, and the guest would never hear of it */
	return OK;
}

static void serve(struct virtio *v, unsigned queue)
{
	struct virtio_queue *q = &v->queue[queue];
	enum status status = OK;

	v->waiting &= (uint32_t)~BIT(queue);
	if (!is_live(v) || !q->enabled || !pci_is_master(&v->function))
		return;
	for (unsigned i = 0; i < CHAINS_AT_ONCE && status == OK; i++)
		status = serve_one(v, queue);
	tell(v, q);
	if (status == NOT_FOUND)
		return;
	if (status != OK && !status_is_shortage(status)) {
		virtio_break(v);
		return;
	}
	v->waiting |= (uint32_t)BIT(queue);
	timer_arm(&v->bus->timers, &v->again, v->bus->now(v->bus->context) + (status == OK ? SOON_NS : LATER_NS));
}

static void serve_again(void *device, uint64_t now)
{
	struct virtio *v = device;
	uint32_t waiting = v->waiting;

	v->late = true;
	for (unsigned i = 0; i < v->model->queues; i++)
		if (waiting & BIT(i))
			serve(v, i);
	v->late = false;
}

void virtio_notified(struct virtio *v, unsigned queue)
{
	if (!(v->waiting & BIT(queue))) /* else its turn comes by the timer, and it may not jump the queue */
		serve(v, queue);
}

static void serve_all(struct virtio *v)
{
	v->late = true;
	for (unsigned i = 0; i < v->model->queues; i++)
		virtio_notified(v, i);
	v->late = false;
}

void virtio_give(struct virtio *v, unsigned queue, uint16_t head, uint32_t written)
{
	struct virtio_queue *q = &v->queue[queue];

	if (!is_live(v) || !q->enabled)
		return;
	if (virtio_ring_give(v, q, head, written) != OK)
		virtio_break(v);
	else
		tell(v, q);
}

/* Features are good if all were offered and the driver is one of version 1: there is no other transport here. */
static bool features_good(const struct virtio *v)
{
	return !(v->accepted & ~virtio_features(v)) && virtio_has(v, VIRTIO_F_VERSION_1);
}

void virtio_set_status(struct virtio *v, uint8_t status)
{
	uint8_t fresh = status & (uint8_t)~v->status;

	if (!status) {
		virtio_reset(v);
		return;
	}
	if ((fresh & VIRTIO_CONFIG_S_FEATURES_OK) && !features_good(v))
		status &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	if (!((status | v->status) & VIRTIO_CONFIG_S_FEATURES_OK))
		status &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	v->status |= status; /* only a reset takes bits away */
	if (fresh & status & VIRTIO_CONFIG_S_DRIVER_OK)
		serve_all(v); /* some drivers have notified already */
}

void virtio_reset(struct virtio *v)
{
	timer_cancel(&v->bus->timers, &v->again);
	v->accepted = 0;
	v->feature_select[0] = v->feature_select[1] = 0;
	v->config_vector = VIRTIO_MSI_NO_VECTOR;
	v->queue_select = 0;
	v->status = v->isr = 0;
	v->waiting = 0;
	for (unsigned i = 0; i < VIRTIO_QUEUES; i++)
		v->queue[i] = (struct virtio_queue){ .size = VIRTIO_QUEUE_SIZE, .vector = VIRTIO_MSI_NO_VECTOR };
	pci_set_line(&v->function, false);
	v->model->reset(v);
}

/* ---- the BAR through configuration space, for who can't reach memory: VIRTIO 1.2 section 4.1.4.9 ---- */

/* Where in the BAR the capability points; false: nowhere. */
static bool window_points(struct virtio *v, unsigned *offset, unsigned *size)
{
	const struct pci_function *f = &v->function;

	*offset = pci_get(f, v->window + VIRTIO_PCI_CAP_OFFSET, 4);
	*size = pci_get(f, v->window + VIRTIO_PCI_CAP_LENGTH, 4);
	return !f->config[v->window + VIRTIO_PCI_CAP_BAR] && (*size == 1 || *size == 2 || *size == 4) &&
	       *offset % *size == 0 && *offset < VIRTIO_BAR_SIZE;
}

static bool is_window(const struct virtio *v, unsigned offset)
{
	return (offset & ~3u) == v->window + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
}

static void config_read(void *device, unsigned offset)
{
	struct virtio *v = device;
	unsigned at, size;

	if (is_window(v, offset) && window_points(v, &at, &size))
		pci_put(v->function.config, offset & ~3u, 4, (uint32_t)virtio_registers.read(v, at, size));
}

static void config_written(void *device, unsigned offset)
{
	struct virtio *v = device;
	unsigned at, size;

	if (is_window(v, offset) && window_points(v, &at, &size))
		virtio_registers.write(v, at, size, pci_get(&v->function, offset & ~3u, size));
	if (offset / 4 == PCI_COMMAND / 4)
		serve_all(v);
}

static const struct pci_ops ops = { .before_read = config_read, .written = config_written };

static void put_capability(struct virtio *v, uint8_t type, unsigned size, uint32_t offset, uint32_t length)
{
	struct pci_function *f = &v->function;
	unsigned at = pci_capability(f, PCI_CAP_ID_VNDR, size);

	f->config[at + VIRTIO_PCI_CAP_LEN] = (uint8_t)size;
	f->config[at + VIRTIO_PCI_CAP_CFG_TYPE] = type;
	pci_put(f->config, at + VIRTIO_PCI_CAP_OFFSET, 4, offset);
	pci_put(f->config, at + VIRTIO_PCI_CAP_LENGTH, 4, length);
	if (type == VIRTIO_PCI_CAP_NOTIFY_CFG)
		pci_put(f->config, at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4, VIRTIO_NOTIFY_STRIDE);
	if (type != VIRTIO_PCI_CAP_PCI_CFG)
		return;
	v->window = at;
	memset(f->writable + at + VIRTIO_PCI_CAP_BAR, 0xff, 1);
	memset(f->writable + at + VIRTIO_PCI_CAP_OFFSET, 0xff, size - VIRTIO_PCI_CAP_OFFSET);
}

enum status virtio_open(struct virtio *v, struct pci *pci, const struct virtio_model *model, void *config)
{
	const struct pci_identity identity = { .vendor = VENDOR,
					       .device = (uint16_t)(DEVICE_BASE + model->id),
					       .subsystem_vendor = VENDOR,
					       .subsystem = 0x1100,
					       .class = CLASS_OTHER,
					       .revision = 1,
					       .interrupt = true };
	struct pci_function *f = &v->function;

	v->model = model;
	v->bus = pci->bus;
	v->config = config;
	v->again = (struct dev_timer){ .fire = serve_again, .device = v };
	TRY(pci_open(pci, f, &identity, &ops, v));
	pci_bar_open(f, 0, VIRTIO_BAR_SIZE, &virtio_registers, v, model->name);
	pci_msix_open(f, VIRTIO_CONFIG_VECTOR + 1, "MSI-X");
	put_capability(v, VIRTIO_PCI_CAP_PCI_CFG, sizeof(struct virtio_pci_cfg_cap), 0, 0);
	put_capability(v, VIRTIO_PCI_CAP_NOTIFY_CFG, sizeof(struct virtio_pci_notify_cap), VIRTIO_AT_NOTIFY,
		       VIRTIO_QUEUES * VIRTIO_NOTIFY_STRIDE);
	put_capability(v, VIRTIO_PCI_CAP_DEVICE_CFG, sizeof(struct virtio_pci_cap), VIRTIO_AT_DEVICE,
		       model->config_size);
	put_capability(v, VIRTIO_PCI_CAP_ISR_CFG, sizeof(struct virtio_pci_cap), VIRTIO_AT_ISR, 4);
	put_capability(v, VIRTIO_PCI_CAP_COMMON_CFG, sizeof(struct virtio_pci_cap), VIRTIO_AT_COMMON,
		       sizeof(struct virtio_pci_common_cfg));
	pci_ready(f);
	virtio_reset(v);
	return OK;
}
