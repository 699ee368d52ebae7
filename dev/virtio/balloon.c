/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The balloon's queues: pages in, pages out, statistics (one buffer, which waits here until fresh ones are wanted), hints (a command
 * number, blocks of free pages, the number's end), and reports of free pages.
 *
 * The later queues have fixed numbers in the manual; Linux before 6.11 numbers those that it uses one after another. So the
 * n-th enabled queue beyond the first two serves the n-th accepted feature that has one: both come out right.
 *
 * F_PAGE_POISON isn't offered: pages come back as zeros.
 */
#include "dev/virtio/balloon.h"

#include <linux/virtio_ids.h>
#include <string.h>

#include "dev/virtio/virtio.h"

#define PAGES_AT_ONCE 1024u       /* of one chain; more is no driver's way */
#define BYTES_AT_ONCE (128 * MIB) /* of hints and reports: Linux' longest; more stays as it is */
#define FIRST_COMMAND 2u          /* lower ones are STOP and DONE */

enum role { INFLATE, DEFLATE, STATISTICS, HINTS, REPORTS, ROLES };

struct stat {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed));

struct balloon {
	struct virtio virtio;
	const struct balloon_memory *memory;
	void *context; /* of it */
	struct virtio_balloon_config config;
	bool kept; /* the buffer for statistics is here */
	unsigned kept_queue;
	uint16_t kept_head;
	bool collecting; /* hints with the present command number come */
	uint32_t command;
	struct balloon_info info;
};

_Static_assert(offsetof(struct balloon, virtio) == 0, "the device is where its virtio is");

static const uint8_t role_feature[ROLES] = { [STATISTICS] = VIRTIO_BALLOON_F_STATS_VQ,
					     [HINTS] = VIRTIO_BALLOON_F_FREE_PAGE_HINT,
					     [REPORTS] = VIRTIO_BALLOON_F_REPORTING };

static enum role role_of(const struct virtio *v, unsigned queue)
{
	unsigned role = queue;

	if (queue < STATISTICS)
		return (enum role)queue;
	role = STATISTICS;
	for (unsigned q = STATISTICS; role < ROLES; role++) {
		if (!virtio_has(v, role_feature[role]))
			continue;
		while (q < queue && !v->queue[q].enabled)
			q++;
		if (q++ >= queue)
			break;
	}
	return (enum role)role;
}

static enum status serve_pages(struct balloon *b, bool inflate, const struct virtio_chain *chain)
{
	uint32_t page[BALLOON_BATCH];
	uint64_t total = 0;
	size_t done;

	for (unsigned i = 0; i < chain->readable; i++)
		total += chain->segment[i].length;
	if (total % sizeof(page[0]) || total > PAGES_AT_ONCE * sizeof(page[0]))
		return BAD_FORMAT;
	for (uint64_t at = 0; at < total; at += done) {
		TRY(virtio_read(&b->virtio, chain, at, page, sizeof(page), &done));
		TRY((inflate ? b->memory->inflate : b->memory->deflate)(b->context, page,
									(unsigned)(done / sizeof(page[0]))));
	}
	return OK;
}

/* The oldest word counts no more; a tag beyond what we know is for others. */
static enum status serve_statistics(struct balloon *b, unsigned queue, const struct virtio_chain *chain)
{
	struct stat stat[2 * VIRTIO_BALLOON_S_NR];
	size_t done;

	if (b->kept)
		return BAD_FORMAT; /* the guest has one buffer for them */
	TRY(virtio_read(&b->virtio, chain, 0, stat, sizeof(stat), &done));
	for (unsigned i = 0; i < done / sizeof(stat[0]); i++) {
		if (stat[i].tag >= VIRTIO_BALLOON_S_NR)
			continue;
		b->info.known |= (uint32_t)BIT(stat[i].tag);
		b->info.statistics[stat[i].tag] = stat[i].value;
	}
	b->kept = true;
	b->kept_queue = queue;
	b->kept_head = chain->head;
	return BUSY;
}

static enum status discard(struct balloon *b, const struct virtio_chain *chain)
{
	uint64_t left = BYTES_AT_ONCE, length;

	for (unsigned i = chain->readable; i < chain->count && left; i++, left -= length) {
		length = min_u64(chain->segment[i].length, left);
		TRY(b->memory->discard(b->context, gpa(chain->segment[i].address), length));
		b->info.discarded += length;
	}
	return OK;
}

static void set_command(struct balloon *b, uint32_t command)
{
	b->config.free_page_hint_cmd_id = command;
	virtio_config_changed(&b->virtio);
}

/*
 * Hints for an older command are void; the end of ours gives the guest its pages back. It may take one back, and write to it, as soon as its
 * notification is over: one that is served later is void, too.
 */
static enum status serve_hints(struct balloon *b, const struct virtio_chain *chain)
{
	uint32_t id;
	size_t done;

	if (chain->readable) {
		TRY(virtio_read(&b->virtio, chain, 0, &id, sizeof(id), &done));
		if (done < sizeof(id))
			return BAD_FORMAT;
		if (b->collecting && id == VIRTIO_BALLOON_CMD_ID_STOP)
			set_command(b, VIRTIO_BALLOON_CMD_ID_DONE);
		b->collecting = id >= FIRST_COMMAND && id == b->config.free_page_hint_cmd_id;
	}
	return b->collecting && !b->virtio.late ? discard(b, chain) : OK;
}

static enum status serve(struct virtio *v, unsigned queue, const struct virtio_chain *chain, uint32_t *written)
{
	struct balloon *b = (struct balloon *)v;

	switch (role_of(v, queue)) {
	case INFLATE: return serve_pages(b, true, chain);
	case DEFLATE: return serve_pages(b, false, chain);
	case STATISTICS: return serve_statistics(b, queue, chain);
	case HINTS: return serve_hints(b, chain);
	case REPORTS: return discard(b, chain);
	default: return BAD_FORMAT;
	}
}

/* `actual` is the driver's to write, and nothing else. */
static void config_write(struct virtio *v, unsigned offset, unsigned size, uint32_t value)
{
	struct balloon *b = (struct balloon *)v;

	if (offset == offsetof(struct virtio_balloon_config, actual) && size == 4)
		b->config.actual = value;
}

static void forget(struct virtio *v)
{
	struct balloon *b = (struct balloon *)v;

	b->kept = b->collecting = false;
	b->config.actual = 0;
	b->config.free_page_hint_cmd_id = VIRTIO_BALLOON_CMD_ID_STOP;
	b->info = (struct balloon_info){ 0 };
}

static const struct virtio_model model = {
	.name = "virtio balloon",
	.id = VIRTIO_ID_BALLOON,
	.queues = ROLES,
	.features = BIT(VIRTIO_BALLOON_F_MUST_TELL_HOST) | BIT(VIRTIO_BALLOON_F_STATS_VQ) |
		    BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) | BIT(VIRTIO_BALLOON_F_FREE_PAGE_HINT) |
		    BIT(VIRTIO_BALLOON_F_REPORTING),
	.config_size = sizeof(struct virtio_balloon_config),
	.serve = serve,
	.config_write = config_write,
	.reset = forget,
};
_Static_assert(ROLES <= VIRTIO_QUEUES, "a queue for each");

void balloon_ask(struct balloon *b, uint32_t pages)
{
	if (b->config.num_pages == pages)
		return;
	b->config.num_pages = pages;
	virtio_config_changed(&b->virtio);
}

void balloon_poll(struct balloon *b)
{
	if (!b->kept)
		return;
	b->kept = false;
	virtio_give(&b->virtio, b->kept_queue, b->kept_head, 0);
}

enum status balloon_collect(struct balloon *b)
{
	if (!(b->virtio.status & VIRTIO_CONFIG_S_DRIVER_OK) || !virtio_has(&b->virtio, VIRTIO_BALLOON_F_FREE_PAGE_HINT))
		return NOT_SUPPORTED;
	if (b->config.free_page_hint_cmd_id >= FIRST_COMMAND)
		return BUSY;
	b->command = b->command < FIRST_COMMAND || b->command == UINT32_MAX ? FIRST_COMMAND : b->command + 1;
	set_command(b, b->command);
	return OK;
}

void balloon_describe(const struct balloon *b, struct balloon_info *info)
{
	*info = b->info;
	info->ready = b->virtio.status & VIRTIO_CONFIG_S_DRIVER_OK;
	info->asked = b->config.num_pages;
	info->held = b->config.actual;
}

void balloon_reset(struct balloon *b)
{
	virtio_reset(&b->virtio);
}

enum status balloon_create(struct bus *bus, struct pci *pci, const struct balloon_memory *memory, void *context,
			   struct balloon **out)
{
	struct balloon *b = device_alloc(bus, sizeof(*b));

	if (!b)
		return NO_MEMORY;
	b->memory = memory;
	b->context = context;
	TRY(virtio_open(&b->virtio, pci, &model, &b->config));
	*out = b;
	return OK;
}
