/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's accounts: what it may use, what it uses, and the chunks it has an affinity to.
 * Units are 4 KiB pages throughout. Reserve before use: allocated + ballooned + n <= reserved,
 * and the sum of all reservations is held against the real memory by admission.
 */
#pragma once

#include "arch/x86_64/address.h"
#include "arch/x86_64/spinlock.h"
#include "lib/status.h"

/* 0 is the host itself; machines count from 1 to OWNER_SHARED - 1. */
typedef uint16_t owner_t;
#define OWNER_HOST 0
#define MAX_OWNERS 1024u
/* The chunks of shared frames (share.c): no machine gets this number. */
#define OWNER_SHARED (MAX_OWNERS - 1)

enum account_kind {
	ACCOUNT_BASE,  /* RAM, ROM */
	ACCOUNT_TABLE, /* SLAT and shadow tables, page records */
	ACCOUNT_FIXED, /* MMIO2 and such */
	ACCOUNT_KINDS
};

enum machine_priority { PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_LOW };

struct chunk;

struct account {
	struct spinlock lock; /* RANK_ACCOUNT */
	owner_t owner;
	uint8_t priority;
	uint8_t node;
	uint64_t reserved[ACCOUNT_KINDS];
	uint64_t allocated[ACCOUNT_KINDS];
	uint64_t private_pages, shared_pages;
	uint64_t changes; /* charges and returns so far, for frame_check */
	uint64_t ballooned, balloon_max;
	struct chunk *partly_used; /* split chunks with an affinity to this owner and room left; under the chunk lock */
};

struct account_request {
	uint64_t pages[ACCOUNT_KINDS];
	enum machine_priority priority;
};

enum overcommit { OVERCOMMIT_NONE, OVERCOMMIT_RATIO };

/* Host policy, set once at boot. percent: how much may be promised of what there is (100 with NONE). */
void account_policy(enum overcommit policy, unsigned percent);

/*
 * Admission. NO_MEMORY: `why` (size bytes) says what was asked, what is promised already, and what is there.
 * LIMIT: too many machines. On OK the account has an owner number of its own.
 */
enum status account_open(struct account *account, const struct account_request *request, char *why,
			 size_t size) must_check;
/*
 * So many pages more, or fewer, reserved for one kind; several CPUs' changes add up. More: NO_MEMORY when admission refuses. Fewer:
 * CONFLICT when more is allocated than would be left; taking back what was just added and not used never fails.
 */
enum status account_adjust(struct account *account, enum account_kind kind, int64_t pages) must_check;
/* So many pages more (or fewer) are ballooned. The caller knows that they were (or weren't) pages of BASE, or might have become such. */
void account_balloon(struct account *account, int64_t pages);
/* All must have been freed: else BAD_STATE, the account stays, and the log says which kind holds how much. */
enum status account_close(struct account *account) must_check;

/* The host's own account: kernel heap and tables; its reservation is what is needed. */
extern struct account host_account;
