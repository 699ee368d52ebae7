/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts and admission.
 *
 * Admission promises pages, so it must know how many chunks a promise can cost. Guest pages come out
 * of whole chunks only; table pages and frame records (one frame per split chunk) out of kernel
 * chunks, ragged ones first. The sum of all promises, with what the kernel holds already, must fit
 * into the chunks that exist; chunk.c then keeps guests from taking the chunks that were promised to tables.
 *
 * Locks: an account's own lock guards its numbers; admission_lock guards what was promised to all.
 * Both have RANK_ACCOUNT and are never held together.
 */
#include "arch/x86_64/percpu.h"
#include "lib/format.h"
#include "mm/chunk.h"
#include "mm/counters.h"

/* Left free by admission for what the host itself comes to need. */
#define ADMISSION_SLACK 2u
#define MAGAZINE_PAGES 16u
#define PAGES_PER_MIB (MIB / PAGE_SIZE)
/* No machine asks for more: keeps sums of promises far from overflow. */
#define REQUEST_MAX BIT(40)

struct account host_account = {
	.lock = SPINLOCK(RANK_ACCOUNT, "host account"),
	.owner = OWNER_HOST,
	.reserved = { REQUEST_MAX, REQUEST_MAX, REQUEST_MAX },
};

static struct spinlock admission_lock = SPINLOCK(RANK_ACCOUNT, "admission");
static struct {
	enum overcommit policy;
	unsigned percent;
	uint64_t guest, table; /* pages promised to all machines */
} admission = { .policy = OVERCOMMIT_NONE, .percent = 100 };

void account_policy(enum overcommit policy, unsigned percent)
{
	lock_acquire(&admission_lock);
	admission.policy = policy;
	admission.percent = policy == OVERCOMMIT_NONE || percent < 100 ? 100 : percent;
	lock_release(&admission_lock);
}

uint64_t account_promised(void)
{
	uint64_t pages;

	lock_acquire(&admission_lock);
	pages = admission.guest + admission.table;
	lock_release(&admission_lock);
	return pages;
}

static uint64_t divide_up(uint64_t value, uint64_t by)
{
	return (value + by - 1) / by;
}

/* Kernel frames that promises of this size will want: tables, and one frame of records per split chunk. */
static uint64_t kernel_share(uint64_t guest, uint64_t table)
{
	return table + divide_up(guest, PAGES_PER_BLOCK);
}

/* Whole chunks that promises of this size would take, and those that there are. Under admission_lock. */
static void weigh(uint64_t guest, uint64_t table, uint64_t *needed, uint64_t *there)
{
	uint64_t kernel;

	guest = divide_up(guest * 100, admission.percent);
	table = divide_up(table * 100, admission.percent);
	lock_acquire(&chunk_lock);
	if (!admission.guest && !admission.table)
		chunks.kernel_base = chunks.kernel_present - chunks.kernel_free;
	kernel = chunks.kernel_base + kernel_share(guest, table) + MAGAZINE_PAGES * cpu_count();
	kernel = kernel > chunks.ragged_pages ? kernel - chunks.ragged_pages : 0;
	*needed = divide_up(guest, PAGES_PER_BLOCK) + divide_up(kernel, PAGES_PER_BLOCK - 1) + ADMISSION_SLACK;
	*there = (chunks.pages - chunks.ragged_pages) / PAGES_PER_BLOCK;
	lock_release(&chunk_lock);
}

/* Under admission_lock. */
static void promise(uint64_t guest, uint64_t table)
{
	admission.guest = guest;
	admission.table = table;
	lock_acquire(&chunk_lock);
	chunks.kernel_promised = divide_up(kernel_share(guest, table) * 100, admission.percent);
	lock_release(&chunk_lock);
}

/* Raises what is promised, if it fits. */
static enum status admit(uint64_t guest, uint64_t table, char *why, size_t size)
{
	uint64_t needed = 0, there = 0;
	uint64_t chunk_mib = BLOCK_SIZE / MIB;

	lock_acquire(&admission_lock);
	weigh(admission.guest + guest, admission.table + table, &needed, &there);
	if (needed > there) {
		format_string(why, size,
			      "%llu MiB asked (%llu for RAM and devices, %llu for tables), %llu MiB promised to other machines, "
			      "%llu MiB there: %llu MiB short",
			      (unsigned long long)divide_up(guest + table, PAGES_PER_MIB),
			      (unsigned long long)divide_up(guest, PAGES_PER_MIB),
			      (unsigned long long)divide_up(table, PAGES_PER_MIB),
			      (unsigned long long)((admission.guest + admission.table) / PAGES_PER_MIB),
			      (unsigned long long)(there * chunk_mib), (unsigned long long)((needed - there) * chunk_mib));
		lock_release(&admission_lock);
		mm_count(&mm_counters.refusals, 1);
		return NO_MEMORY;
	}
	promise(admission.guest + guest, admission.table + table);
	lock_release(&admission_lock);
	return OK;
}

static void unpromise(uint64_t guest, uint64_t table)
{
	lock_acquire(&admission_lock);
	promise(admission.guest - guest, admission.table - table);
	lock_release(&admission_lock);
}

/* A free owner number, or OWNER_HOST when all are taken. */
static owner_t enlist(struct account *account)
{
	owner_t owner = OWNER_HOST;

	lock_acquire(&chunk_lock);
	for (unsigned i = 1; i < MAX_OWNERS; i++) {
		if (!accounts[i]) {
			account->owner = owner = (owner_t)i;
			accounts[i] = account;
			break;
		}
	}
	lock_release(&chunk_lock);
	return owner;
}

enum status account_open(struct account *account, const struct account_request *request, char *why, size_t size)
{
	uint64_t guest, table = request->pages[ACCOUNT_TABLE];
	enum status status;

	for (unsigned i = 0; i < ACCOUNT_KINDS; i++) {
		if (request->pages[i] > REQUEST_MAX) {
			format_string(why, size, "more memory asked than any machine may have");
			return NO_MEMORY;
		}
	}
	guest = request->pages[ACCOUNT_BASE] + request->pages[ACCOUNT_FIXED];
	status = admit(guest, table, why, size);
	if (status != OK)
		return status;
	*account = (struct account){ .lock = SPINLOCK(RANK_ACCOUNT, "account"), .priority = (uint8_t)request->priority };
	for (unsigned i = 0; i < ACCOUNT_KINDS; i++)
		account->reserved[i] = request->pages[i];
	if (enlist(account) == OWNER_HOST) {
		unpromise(guest, table);
		format_string(why, size, "%u machines exist, more are not possible", MAX_OWNERS - 1);
		return LIMIT;
	}
	mm_count(&mm_counters.admissions, 1);
	return OK;
}

static uint64_t used(const struct account *account, enum account_kind kind)
{
	return account->allocated[kind] + (kind == ACCOUNT_BASE ? account->ballooned : 0);
}

enum status account_resize(struct account *account, enum account_kind kind, uint64_t pages)
{
	uint64_t before, more, less;
	enum status status = OK;
	char why[160];

	if (pages > REQUEST_MAX)
		return NO_MEMORY;
	lock_acquire(&account->lock);
	before = account->reserved[kind];
	lock_release(&account->lock);
	more = pages > before ? pages - before : 0;
	if (more)
		status = admit(kind == ACCOUNT_TABLE ? 0 : more, kind == ACCOUNT_TABLE ? more : 0, why, sizeof(why));
	if (status != OK)
		return status;
	lock_acquire(&account->lock);
	if (account->reserved[kind] != before)
		status = BUSY; /* another CPU resized it at the same time */
	else if (pages < used(account, kind))
		status = CONFLICT;
	else
		account->reserved[kind] = pages;
	lock_release(&account->lock);
	less = status != OK ? more : before > pages ? before - pages : 0;
	if (less)
		unpromise(kind == ACCOUNT_TABLE ? 0 : less, kind == ACCOUNT_TABLE ? less : 0);
	return status;
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
	bool room;

	lock_acquire(&account->lock);
	room = account_charge(account, kind, pages);
	lock_release(&account->lock);
	return room ? OK : OVER_QUOTA;
}

void account_uncharge_locked(struct account *account, enum account_kind kind, uint64_t pages)
{
	lock_acquire(&account->lock);
	account_uncharge(account, kind, pages);
	lock_release(&account->lock);
}

/* CPUs that are going through the accounts just now; atomic. */
static uint32_t visitors;

void account_each(void (*visit)(struct account *account, void *context), void *context)
{
	__atomic_fetch_add(&visitors, 1, __ATOMIC_ACQ_REL);
	for (unsigned i = 1; i < MAX_OWNERS; i++) {
		struct account *account;

		lock_acquire(&chunk_lock);
		account = accounts[i];
		lock_release(&chunk_lock);
		if (account)
			visit(account, context);
	}
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

	guest_reserve_drain(account);
	for (unsigned i = 0; i < ACCOUNT_KINDS; i++) {
		if (!account->allocated[i])
			continue;
		log_line("mm: machine %u still holds %llu pages of its %s account", account->owner,
			 (unsigned long long)account->allocated[i], names[i]);
		empty = false;
	}
	if (account->shared_pages) {
		log_line("mm: machine %u still holds %llu shared pages", account->owner,
			 (unsigned long long)account->shared_pages);
		empty = false;
	}
	if (!empty)
		return BAD_STATE;
	kernel_magazine_drain();
	discharge(account);
	unpromise(account->reserved[ACCOUNT_BASE] + account->reserved[ACCOUNT_FIXED], account->reserved[ACCOUNT_TABLE]);
	account->owner = OWNER_HOST;
	return OK;
}
