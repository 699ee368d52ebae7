/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon: the guest gives pages back when it is asked to, tells of pages that it happens not to use, and of how it is off.
 * What becomes of the pages is for whoever made the device: it only carries their numbers, which nobody has checked.
 * Manual: VIRTIO 1.2 section 5.5.
 */
#pragma once

#include <linux/virtio_balloon.h>

#include "dev/pci/pci.h"

#define BALLOON_BATCH 256u /* pages, as many as Linux sends at once */

struct balloon;

/* Numbers of 4 KiB pages and addresses are the guest's word: outside RAM, twice, in use: all of it comes. context: as given at creation. */
struct balloon_memory {
	/* Up to BALLOON_BATCH pages go into the balloon; out of it. NO_MEMORY: it is tried again, all of them. Bad pages are passed over. */
	enum status (*inflate)(void *context, const uint32_t *page, unsigned count);
	enum status (*deflate)(void *context, const uint32_t *page, unsigned count);
	/* Nobody needs what is in there; the guest may use it again at any time, without a word. */
	enum status (*discard)(void *context, gpa_t from, uint64_t length);
};

struct balloon_info {
	bool ready;                               /* a driver is there */
	uint32_t asked, held;                     /* pages: wanted by us; what the guest says it has given */
	uint64_t discarded;                       /* bytes that it told of as free, since its driver came */
	uint32_t known;                           /* bit for each of VIRTIO_BALLOON_S_* in statistics */
	uint64_t statistics[VIRTIO_BALLOON_S_NR]; /* bytes or counts, the guest's word */
};

/* NO_MEMORY, LIMIT. */
enum status balloon_create(struct bus *bus, struct pci *pci, const struct balloon_memory *memory, void *context,
			   struct balloon **out) must_check;
/* What it is asked for stays. */
void balloon_reset(struct balloon *balloon);
void balloon_ask(struct balloon *balloon, uint32_t pages);
/* The guest is to send fresh statistics. */
void balloon_poll(struct balloon *balloon);
/* The guest is to tell at once of all that it doesn't use. NOT_SUPPORTED: its driver can't, or there is none; BUSY: it is at it. */
enum status balloon_collect(struct balloon *balloon) must_check;
void balloon_describe(const struct balloon *balloon, struct balloon_info *info);
