/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Access handlers, as the rooms above see them: who answers the guest's and the devices' accesses to some pages, or only hears
 * of its writes. handler/ does it.
 *
 * Callers as of pgm.h; what else may be held, and what a callback may do, is told with each.
 */
#pragma once

#include "pgm/pgm.h"

/*
 * MMIO: whole pages where no range has memory. ALL: every access to whole pages of RAM, ROM or MMIO2. WRITE: writes
 * alone, to any bytes; several may share a page, and what is written beside them is written as ever.
 */
enum handler_kind { HANDLER_KIND_MMIO, HANDLER_KIND_ALL, HANDLER_KIND_WRITE };

enum handler_flags {
	/*
	 * The callback runs with the handlers' lock held: none comes or goes meanwhile. It may use physical access, but
	 * no operation on handlers.
	 */
	HANDLER_KEEP_LOCK = 1,
	/* Only pgm_read and pgm_write call it; the guest's own accesses pass it by. Whole pages. */
	HANDLER_NOT_IN_HARDWARE = 2,
};

struct pgm_access {
	gpa_t where;
	unsigned size; /* 1..8 */
	bool write;
	enum pgm_origin origin;
	uint64_t value; /* write: the data; read: the handler's answer */
};
/*
 * OK: done. NOT_FOUND: not mine: kinds ALL and WRITE then do the ordinary access, MMIO reads all ones and drops
 * writes. Other statuses are passed to the caller of pgm_read/pgm_write. Called without PGM locks (but see
 * HANDLER_KEEP_LOCK), on any CPU, on several at once.
 */
typedef enum status (*pgm_handler)(void *user, struct pgm_access *access);

typedef uint32_t handler_type; /* a handle with a random tag: a stale one is caught. Never 0. */
/* Up to 32 types. LIMIT; BAD_VALUE: flags, or NOT_IN_HARDWARE for kind MMIO. The description must live as long. */
enum status pgm_handler_type_register(struct pgm *pgm, enum handler_kind kind, unsigned flags, pgm_handler callback,
				      const char *description, handler_type *out) must_check;
/* BUSY: handlers of this type exist. NOT_FOUND: a stale handle. */
enum status pgm_handler_type_deregister(struct pgm *pgm, handler_type type) must_check;

/*
 * Operations on handlers. From inside a handler of a type that keeps the lock all are refused: BAD_STATE. Those that wait, holding nothing,
 * until no call that began before is in progress are so from inside any, and no lock may be held that a handler takes (not
 * even a machine's): deregister, change_user, modify, type_deregister.
 *
 * BUSY: done but for the marks of many pages (more than some MiB with records): call pgm_handlers_step() until it isn't
 * BUSY any more, what it says then is the operation's status, and every CPU traps from then on. Until then no operation is allowed but on MMIO
 * of less than 8 MiB: BAD_STATE.
 */
enum status pgm_handlers_step(struct pgm *pgm) must_check;
/*
 * first..last inclusive, within one range. CONFLICT: another handler overlaps, or MMIO over memory. BAD_ADDRESS: no
 * range of memory around it all (ALL, WRITE). BAD_VALUE: not whole pages, or upside down. LIMIT, NO_MEMORY, OVER_QUOTA
 * leave all as it was. NOT_FOUND: a stale type. On return every CPU traps. BUSY.
 */
enum status pgm_handler_register(struct pgm *pgm, handler_type type, gpa_t first, gpa_t last, void *user,
				 const char *description) must_check;
/*
 * A handler is named by its first address: NOT_FOUND for all operations below when none starts there.
 *
 * Deregister undoes aliases and returns, OK or BUSY, only when no call to the handler is in progress: `user` may be freed then.
 */
enum status pgm_handler_deregister(struct pgm *pgm, gpa_t first) must_check;
/* Arms all its pages again and undoes its aliases. BUSY. */
enum status pgm_handler_reset(struct pgm *pgm, gpa_t first) must_check;
/*
 * Switches the handler off for one of its pages until reset: accesses there go through with full rights (on a
 * page shared with other WRITE handlers these stay armed). BAD_VALUE: not its page. NOT_SUPPORTED: kind MMIO, which has nothing below.
 */
enum status pgm_handler_page_off(struct pgm *pgm, gpa_t first, gpa_t page) must_check;
/*
 * Until reset, a page of an MMIO handler shows the guest another one: that of an MMIO2 range (our own accesses go there too),
 * or a host frame (an APIC-access page; our own accesses still go to the handler). The frame must stay until the alias is undone.
 * BAD_VALUE: not its page or no page of the kind. NOT_SUPPORTED: not kind MMIO. CONFLICT: shows something else already. BAD_ADDRESS:
 * no memory at mmio2_page, or `page` beyond the directory (above 4 GiB and above all RAM). NO_MEMORY, OVER_QUOTA.
 */
enum status pgm_handler_alias_mmio2(struct pgm *pgm, gpa_t first, gpa_t page, gpa_t mmio2_page) must_check;
enum status pgm_handler_alias_frame(struct pgm *pgm, gpa_t first, gpa_t page, hpa_t frame) must_check;
/* No call with the old value is in progress afterwards. */
enum status pgm_handler_change_user(struct pgm *pgm, gpa_t first, void *user) must_check;
/* [first, last] → [first, at - 1] and [at, last]. BAD_VALUE: `at` not inside, or not a whole page; LIMIT. A page cut in two is armed again. */
enum status pgm_handler_split(struct pgm *pgm, gpa_t first, gpa_t at) must_check;
/*
 * The handler at `second` must begin where the first ends: BAD_VALUE; and be of equal type, user, description: CONFLICT.
 * A page that both have a part of stays off if it was off for both.
 */
enum status pgm_handler_join(struct pgm *pgm, gpa_t first, gpa_t second) must_check;
/* Moves it to another range, all armed, aliases undone. Errors as of register, which leave it where it was. BUSY. */
enum status pgm_handler_modify(struct pgm *pgm, gpa_t first, gpa_t new_first, gpa_t new_last) must_check;

struct pgm_handler_info {
	uint64_t first, last, hits;
	enum handler_kind kind;
	unsigned flags;
	bool excepted; /* some of its pages may be off, or show another page */
	void *user;
	const char *description, *type_description;
};
/* The next handler that ends at or above `from`, in address order; false: none. Lock-free. */
bool pgm_handler_next(struct pgm *pgm, gpa_t from, struct pgm_handler_info *out);
/* The handler that covers this byte; out may be NULL. Lock-free. */
bool pgm_handler_find(struct pgm *pgm, gpa_t where, struct pgm_handler_info *out);
