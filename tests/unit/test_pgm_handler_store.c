/* SPDX-License-Identifier: Apache-2.0 */
// sources: pgm/handler/store.c pgm/check/store.c lib/format.c
// threads
/*
 * The store of handlers against a list: 65,536 of them in several orders of coming and going, random mixes,
 * planted damage, and lookups while a writer changes it.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/bits.h"
#include "pgm/check/finding.h"
#include "pgm/handler/handler.h"
#include "pgm/pgm.h"

#define MANY 65536u
#define STRIDE 0x1000u
#define LENGTH 0x800u /* handler i covers i * STRIDE .. + LENGTH - 1 */

static struct handler_table table;
static struct pgm_counters counters;

static void on_finding(void *context, const char *line)
{
	(void)context;
	fprintf(stderr, "check: %s\n", line);
}

static void count_finding(void *context, const char *line)
{
	++*(unsigned *)context;
	assert_true(strlen(line) > 20);
}

static void make(uint32_t capacity)
{
	assert_int_equal(handler_table_create(&table, capacity, &counters), OK);
	for (unsigned i = 0; i < HANDLER_TYPES; i++)
		table.type[i].tag = 1;
}

/* As an operation does it: it asks first. */
static enum status insert(const struct handler_node *n)
{
	if (handler_overlaps(&table, n->first, n->last, UINT64_MAX))
		return CONFLICT;
	if (handler_room(&table) != OK)
		return LIMIT;
	handler_change_begin(&table);
	handler_put(&table, n);
	handler_change_end(&table);
	return OK;
}

static void take_at(uint64_t first)
{
	handler_change_begin(&table);
	handler_take(&table, first);
	handler_change_end(&table);
}

static enum status add(uint32_t i)
{
	struct handler_node n = { .first = (uint64_t)i * STRIDE,
				  .last = (uint64_t)i * STRIDE + LENGTH - 1,
				  .type = i % 32,
				  .user = (void *)(uintptr_t)(i + 1) };

	return insert(&n);
}

static void take(uint32_t i)
{
	struct handler_node n;

	assert_true(handler_find(&table, (uint64_t)i * STRIDE, &n));
	assert_int_equal(n.first, (uint64_t)i * STRIDE);
	assert_ptr_equal(n.user, (void *)(uintptr_t)(i + 1));
	take_at(n.first);
	assert_false(handler_find(&table, (uint64_t)i * STRIDE, &n));
}

static void check(void)
{
	struct check c = { .report = on_finding };

	handler_store_check(&c, &table);
	assert_int_equal(c.findings, 0);
}

/* Multiplication by an odd number is a permutation of 0 .. 2^n - 1. */
static uint32_t order(unsigned kind, uint32_t many, uint32_t i)
{
	switch (kind) {
	case 0: return i;
	case 1: return many - 1 - i;
	case 2: return (uint32_t)(i * 40503u) % many;
	default: return i & 1 ? many - 1 - i / 2 : i / 2; /* from both ends */
	}
}

/* All there can be in the orders that move little, fewer in those that move half of the store each time. */
static void come_and_go(unsigned kind)
{
	uint32_t many = kind ? MANY / 16 : MANY;
	struct handler_node n;

	make(many);
	for (uint32_t i = 0; i < many; i++)
		assert_int_equal(add(order(kind, many, i)), OK);
	check();
	assert_int_equal(add(many), LIMIT);
	assert_int_equal(add(7), CONFLICT);
	for (uint32_t i = 0; i < many; i++) {
		uint64_t at = (uint64_t)i * STRIDE;

		assert_true(handler_find(&table, at + LENGTH - 1, &n) && n.first == at);
		assert_false(handler_find(&table, at + LENGTH, &n));
		assert_true(handler_next(&table, at + LENGTH - 1, &n) && n.first == at);
		assert_int_equal(handler_next(&table, at + LENGTH, &n), i + 1 < many);
		assert_true(i + 1 == many || n.first == at + STRIDE);
	}
	for (uint32_t i = 0; i < many; i++) {
		take(order((kind + 1) % 4, many, i));
		if (i % 8191 == 0)
			check();
	}
	check();
	assert_int_equal(table.used, 0);
	handler_table_destroy(&table);
}

static void test_many(void **state)
{
	for (unsigned kind = 0; kind < 4; kind++)
		come_and_go(kind);
}

#define SMALL 48u
#define SPACE 400u /* random intervals in 0 .. SPACE - 1 */

struct model {
	unsigned count;
	struct {
		uint64_t first, last;
	} item[SMALL];
};

static bool model_overlaps(const struct model *m, uint64_t first, uint64_t last)
{
	for (unsigned i = 0; i < m->count; i++)
		if (first <= m->item[i].last && last >= m->item[i].first)
			return true;
	return false;
}

static void compare(const struct model *m, unsigned step)
{
	for (uint64_t at = 0; at < SPACE + 2; at++) {
		struct handler_node n, next;
		bool there = false, follows = false;
		uint64_t best = UINT64_MAX;

		for (unsigned i = 0; i < m->count; i++) {
			there |= m->item[i].first <= at && at <= m->item[i].last;
			if (m->item[i].last >= at && m->item[i].last < best) {
				best = m->item[i].last;
				follows = true;
			}
		}
		if (handler_find(&table, at, &n) != there || handler_next(&table, at, &next) != follows ||
		    (there && (at < n.first || at > n.last)) || (follows && next.last != best))
			fail_msg("step %u: at %llu", step, (unsigned long long)at);
	}
}

static void test_random(void **state)
{
	struct model m = { 0 };
	uint64_t seed = 12345;

	make(SMALL);
	for (unsigned step = 0; step < 60000; step++) {
		uint64_t first, last;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		first = (seed >> 33) % SPACE;
		last = first + (seed >> 20) % 9;
		if ((seed >> 60) % 16 < 7 || !m.count) {
			struct handler_node n = { .first = first, .last = last };
			enum status want = model_overlaps(&m, first, last) ? CONFLICT : m.count == SMALL ? LIMIT : OK;

			assert_int_equal(insert(&n), want);
			if (want == OK) {
				m.item[m.count].first = first;
				m.item[m.count++].last = last;
			}
		} else {
			unsigned which = (unsigned)(seed >> 33) % m.count;

			take_at(m.item[which].first);
			m.item[which] = m.item[--m.count];
		}
		assert_int_equal(table.used, m.count);
		if (step % 16 == 0) {
			check();
			compare(&m, step);
		}
	}
	handler_table_destroy(&table);
}

static void damage_order(void)
{
	handler_in_order(&table, 300)->first ^= 1ull << 40;
}
static void damage_length(void)
{
	handler_in_order(&table, 300)->last ^= 1ull << 20;
}
static void damage_number(void)
{
	table.order[7] ^= 1u << 16;
}
static void damage_type(void)
{
	handler_in_order(&table, 300)->type ^= 1;
}
static void damage_gap(void)
{
	handler_in_order(&table, 300)->type ^= 0x80;
}
static void damage_used(void)
{
	table.used ^= 1;
}
static void damage_free(void)
{
	table.free ^= 3;
}
static void damage_loop(void)
{
	static uint64_t last;
	struct handler_node *n = handler_node_at(&table, table.free);

	if (n->last == table.free)
		n->last = last;
	else
		last = n->last, n->last = table.free;
}

static void test_damage(void **state)
{
	static void (*const damages[])(void) = { damage_order, damage_length, damage_number, damage_type,
						 damage_gap,   damage_used,   damage_free,   damage_loop };

	make(1000);
	for (uint32_t i = 0; i < 600; i++)
		assert_int_equal(add(i * 7 % 600), OK);
	for (unsigned i = 0; i < ARRAY_SIZE(damages); i++) {
		unsigned lines = 0;
		struct check c = { .report = count_finding, .context = &lines };
		struct handler_node n;

		check();
		damages[i]();
		handler_store_check(&c, &table);
		if (!c.findings)
			fail_msg("damage %u wasn't found", i);
		assert_int_equal(lines, c.findings < REPORT_AT_MOST ? c.findings : REPORT_AT_MOST);
		/* A lookup goes astray at worst. */
		for (uint64_t at = 0; at < 700 * STRIDE; at += STRIDE / 2) {
			(void)handler_find(&table, at, &n);
			(void)handler_next(&table, at, &n);
		}
		damages[i]();
	}
	check();
	handler_table_destroy(&table);
}

/* A lookup that ended just before a removal may note the removed node as the recent one just after it. */
static void test_recent(void **state)
{
	struct handler_node n;
	struct handler_node *noted;

	make(100);
	assert_int_equal(add(1), OK);
	assert_int_equal(add(2), OK);
	assert_true(handler_find_recent(&table, 2 * STRIDE, &n));
	noted = table.recent;
	assert_int_equal(noted->first, 2 * STRIDE);
	take(2);
	table.recent = noted;
	assert_false(handler_find_recent(&table, 2 * STRIDE, &n));
	table.recent = noted;
	assert_true(handler_find_recent(&table, STRIDE, &n));
	assert_int_equal(n.first, STRIDE);
	check();
	handler_table_destroy(&table);
}

#define STEADY 100u /* handlers that stay: 0, 2, 4 ...; the writer moves odd ones */
static uint32_t stop;
static uint32_t looked; /* readers that have begun */

static void *reader(void *context)
{
	uint64_t seed = (uintptr_t)context;
	unsigned found = 0;

	__atomic_fetch_add(&looked, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		struct handler_node n;
		uint64_t i;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		i = (seed >> 33) % STEADY;
		if (handler_find_recent(&table, 2 * i * STRIDE + 5, &n)) {
			if (n.first != 2 * i * STRIDE || n.user != (void *)(uintptr_t)(2 * i + 1))
				abort();
			found++;
		} else {
			abort();
		}
		if (!handler_next(&table, 2 * i * STRIDE + LENGTH, &n) && i + 1 < STEADY)
			abort();
		if (handler_find(&table, 2 * i * STRIDE + LENGTH, &n))
			abort();
	}
	return (void *)(uintptr_t)found;
}

static void test_threads(void **state)
{
	pthread_t threads[3];
	uint64_t seed = 99;
	static bool there[STEADY];

	make(2 * STEADY);
	for (uint32_t i = 0; i < STEADY; i++)
		assert_int_equal(add(2 * i), OK);
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, reader, (void *)(uintptr_t)(i + 1)), 0);
	while (__atomic_load_n(&looked, __ATOMIC_ACQUIRE) < ARRAY_SIZE(threads))
		;
	for (unsigned step = 0; step < 15000; step++) {
		uint32_t i;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		i = (uint32_t)(seed >> 33) % STEADY;
		if (there[i])
			take(2 * i + 1);
		else
			assert_int_equal(add(2 * i + 1), OK);
		there[i] = !there[i];
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	check();
	handler_table_destroy(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many),   cmocka_unit_test(test_random),  cmocka_unit_test(test_damage),
		cmocka_unit_test(test_recent), cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
