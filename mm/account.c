/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts: who has which owner number, what is reserved and what is charged. Each account's own lock guards
 * its numbers, chunk_lock the table of owners. A charge comes before the search for memory
 * and is taken back if that fails, so allocated never exceeds what was reserved.
 */
#include "lib/format.h"
#include "mm/chunk.h"
#include "mm/counters.h"
#include "mm/inject.h"

struct account host_account = {
	.lock = SPINLOCK(RANK_ACCOUNT, "host account"),
	.owner = OWNER_HOST,
	.reserved = { REQUEST_MAX, REQUEST_MAX, REQUEST_MAX },
};

/* A free owner number, or OWNER_HOST when all are taken. */
static owner_t enlist(struct account *account)
{
	HOLD(&chunk_lock);
	for (unsigned i = 1; i < OWNER_SHARED; i++) {
		if (!accounts[i]) {
			account->owner = (owner_t)i;
			accounts[i] = account;
			return account->owner;
		}
	}
	return OWNER_HOST;
}

enum status account_open(struct account *account, const struct account_request *request, char *why, size_t size)
{
	uint64_t guest, table = request->pages[ACCOUNT_TABLE];

	for (unsigned i = 0; i < ACCOUNT_KINDS; i++) {
		if (request->pages[i] > REQUEST_MAX)
			return EXPLAIN(NO_MEMORY, why, size, "more memory asked than any machine may have");
	}
	guest = request->pages[ACCOUNT_BASE] + request->pages[ACCOUNT_FIXED];
	TRY(admission_raise(guest, table, why, size));
	*account =
		(struct account){ .lock = SPINLOCK(RANK_ACCOUNT, "account"), .priority = (uint8_t)request->priority };
	for (unsigned i = 0; i < ACCOUNT_KINDS; i++)
		account->reserved[i] = request->pages[i];
	if (enlist(account) == OWNER_HOST) {
		admission_lower(guest, table);
		return EXPLAIN(LIMIT, why, size, "%u machines exist, more are not possible", OWNER_SHARED - 1);
	}
	mm_count(&mm_counters.admissions, 1);
	return OK;
}

static uint64_t used(const struct account *account, enum account_kind kind)
{
	return account->allocated[kind] + (kind == ACCOUNT_BASE ? account->ballooned : 0);
}

static enum status reserve_more(struct account *account, enum account_kind kind, uint64_t pages)
{
	bool table = kind == ACCOUNT_TABLE;
	char why[160];

	if (pages > REQUEST_MAX)
		return NO_MEMORY;
	TRY(admission_raise(table ? 0 : pages, table ? pages : 0, why, sizeof(why)));
	HOLD(&account->lock);
	account->reserved[kind] += pages;
	return OK;
}

static enum status reserve_less(struct account *account, enum account_kind kind, uint64_t pages)
{
	bool table = kind == ACCOUNT_TABLE, fits;

	lock_acquire(&account->lock);
	fits = account->reserved[kind] >= pages && account->reserved[kind] - pages >= used(account, kind);
	if (fits)
		account->reserved[kind] -= pages;
	lock_release(&account->lock);
	if (!fits)
		return CONFLICT;
	admission_lower(table ? 0 : pages, table ? pages : 0);
	return OK;
}

enum status account_adjust(struct account *account, enum account_kind kind, int64_t pages)
{
	return pages < 0 ? reserve_less(account, kind, -(uint64_t)pages) : reserve_more(account, kind, (uint64_t)pages);
}

void account_balloon(struct account *account, int64_t pages)
{
	HOLD(&account->lock);
	account->ballooned += (uint64_t)pages;
	account->changes++;
	if (account->ballooned > account->balloon_max)
		account->balloon_max = account->ballooned;
}

bool account_charge(struct account *account, enum account_kind kind, uint64_t pages)
{
	uint64_t after = used(account, kind) + pages;

	if (after > account->reserved[kind])
		return false;
	account->allocated[kind] += pages;
	account->changes++;
	account->private_pages += kind == ACCOUNT_TABLE ? 0 : pages;
	return true;
}

void account_uncharge(struct account *account, enum account_kind kind, uint64_t pages)
{
	panic_unless(account->allocated[kind] >= pages);
	account->allocated[kind] -= pages;
	account->changes++;
	account->private_pages -= kind == ACCOUNT_TABLE ? 0 : pages;
}

enum status account_charge_locked(struct account *account, enum account_kind kind, uint64_t pages)
{
	HOLD(&account->lock);
	return account_charge(account, kind, pages) ? OK : OVER_QUOTA;
}

void account_uncharge_locked(struct account *account, enum account_kind kind, uint64_t pages)
{
	HOLD(&account->lock);
	account_uncharge(account, kind, pages);
}

/* CPUs that are going through the accounts just now; atomic. */
static uint32_t visitors;

static struct account *next_account(unsigned *i)
{
	HOLD(&chunk_lock);
	while (*i < MAX_OWNERS && !accounts[*i])
		++*i;
	return *i < MAX_OWNERS ? accounts[*i] : NULL;
}

void account_each(void (*visit)(struct account *account, void *context), void *context)
{
	struct account *account;

	__atomic_fetch_add(&visitors, 1, __ATOMIC_ACQ_REL);
	for (unsigned i = 1; (account = next_account(&i)); i++)
		visit(account, context);
	__atomic_fetch_sub(&visitors, 1, __ATOMIC_RELEASE);
}

/*
 * The owner number is free again. Chunks with an affinity to this machine that still hold frames of others belong
 * to nobody from now on. Returns when no visitor can still see the account.
 */
static void discharge(struct account *account)
{
	lock_acquire(&chunk_lock);
	while (account->partly_used) {
		struct chunk *chunk = account->partly_used;

		chunk_unlist(chunk);
		chunk->owner = OWNER_HOST;
		chunk_relist(chunk);
	}
	accounts[account->owner] = NULL;
	chunk_drop_spares();
	lock_release(&chunk_lock);
	while (__atomic_load_n(&visitors, __ATOMIC_ACQUIRE))
		spin_pause();
}

enum status account_close(struct account *account)
{
	static const char *const names[ACCOUNT_KINDS] = { "base", "table", "fixed" };
	bool empty = true;

	for (unsigned i = 0; i < ACCOUNT_KINDS; i++) {
		if (!account->allocated[i])
			continue;
		log_line(LOG_ERROR "mm: machine %u still holds %llu pages of its %s account", account->owner,
			 (unsigned long long)account->allocated[i], names[i]);
		empty = false;
	}
	if (account->shared_pages) {
		log_line(LOG_ERROR "mm: machine %u still holds %llu shared pages", account->owner,
			 (unsigned long long)account->shared_pages);
		empty = false;
	}
	if (!empty)
		return BAD_STATE;
	inject_owner_gone(account->owner);
	discharge(account);
	admission_lower(account->reserved[ACCOUNT_BASE] + account->reserved[ACCOUNT_FIXED],
			account->reserved[ACCOUNT_TABLE]);
	account->owner = OWNER_HOST;
	return OK;
}
