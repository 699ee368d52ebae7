/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: a ring of lines without a lock. A producer takes the next number, claims that number's slot by
 * compare-and-exchange on its sequence word, writes, and publishes:
 *
 *   sequence 2n + 1: line n is being written;  2n + 2: line n is complete.
 *
 * A reader copies a line and looks at the sequence again: changed, the copy is thrown away. A producer that
 * was held up for a whole turn of the ring finds its slot taken and drops its line, counted;
 * readers pass over a number that never completes. So no one ever waits for anyone.
 */
#include "arch/x86_64/log.h"

#include <string.h>

#include "arch/x86_64/host.h"
#include "lib/format.h"

#define LINES 1024u
#define LINE_LENGTH 240u
#define PREFIX_LENGTH 16u
#define DRAIN_MOST 64u    /* lines carried by one log_drain() */
#define GIVE_UP_AFTER 32u /* newer lines, before an unfinished one is passed over */

_Static_assert((LINES & (LINES - 1)) == 0 && LINES >= 512, "a number's slot is its low bits");

struct slot {
	uint64_t sequence; /* atomic */
	char level;
	char text[PREFIX_LENGTH + LINE_LENGTH + 7];
};

static struct slot ring[LINES];
static uint64_t next_number; /* atomic */
static uint64_t drained;     /* boot CPU: first line not yet carried out */
static uint64_t dropped;     /* atomic */
static void (*line_sink)(const char *line);
static char shown = 3; /* *LOG_INFO */

void log_set_level(char level)
{
	shown = level;
}

static void write_slot(uint64_t number, char level, const char *text, size_t length)
{
	struct slot *slot = &ring[number % LINES];
	uint64_t seen = __atomic_load_n(&slot->sequence, __ATOMIC_RELAXED);
	bool taken = seen & 1 || seen > 2 * number;

	if (taken || !__atomic_compare_exchange_n(&slot->sequence, &seen, 2 * number + 1, false, __ATOMIC_ACQUIRE,
						  __ATOMIC_RELAXED)) {
		__atomic_fetch_add(&dropped, 1, __ATOMIC_RELAXED);
		return;
	}
	__atomic_thread_fence(__ATOMIC_RELEASE);
	slot->level = level;
	memcpy(slot->text, text, length);
	slot->text[length] = '\0';
	__atomic_store_n(&slot->sequence, 2 * number + 2, __ATOMIC_RELEASE);
}

/* A finished line has neither control characters nor line ends: what comes from outside can't forge lines. */
static void clean(char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			text[i] = text[i] == '\t' ? ' ' : '.';
}

void log_line(const char *format, ...)
{
	char text[PREFIX_LENGTH + LINE_LENGTH + 1];
	char level = *format >= *LOG_ERROR && *format <= *LOG_DEBUG ? *format++ : *LOG_INFO;
	uint64_t now = host_now_ns();
	size_t prefix, length;

	prefix = format_string(text, sizeof(text), "[%4lu.%06lu] ", now / 1000000000, now / 1000 % 1000000);
	prefix = min_u64(prefix, PREFIX_LENGTH);
	length = prefix + format_arguments(text + prefix, LINE_LENGTH + 1, format);
	length = min_u64(length, prefix + LINE_LENGTH);
	clean(text, length);
	write_slot(__atomic_fetch_add(&next_number, 1, __ATOMIC_RELAXED), level, text, length);
}

/* HIDDEN: read, but of a level that isn't shown. */
enum line_state { LINE_READ, LINE_HIDDEN, LINE_PENDING, LINE_LOST };

static enum line_state read_slot(uint64_t number, char *text)
{
	const struct slot *slot = &ring[number % LINES];
	uint64_t seen = __atomic_load_n(&slot->sequence, __ATOMIC_ACQUIRE);
	char level;

	if (seen < 2 * number + 2)
		return LINE_PENDING;
	if (seen > 2 * number + 2)
		return LINE_LOST;
	level = slot->level;
	memcpy(text, slot->text, sizeof(slot->text));
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (__atomic_load_n(&slot->sequence, __ATOMIC_RELAXED) != seen)
		return LINE_LOST;
	return level <= shown ? LINE_READ : LINE_HIDDEN;
}

static void carry(const char *text)
{
	if (line_sink) {
		line_sink(text);
		return;
	}
	console_write(text, strlen(text));
	console_write("\r\n", 2);
}

static void report_lost(uint64_t count)
{
	char text[64];

	format_string(text, sizeof(text), "(%lu log lines lost)", count);
	carry(text);
}

void log_drain(void)
{
	uint64_t end = __atomic_load_n(&next_number, __ATOMIC_ACQUIRE), lost = 0;
	char text[sizeof(ring[0].text)];

	if (end - drained > LINES) {
		lost = end - LINES - drained;
		drained = end - LINES;
	}
	for (unsigned i = 0; i < DRAIN_MOST && drained < end; i++) {
		enum line_state state = read_slot(drained, text);

		if (state == LINE_PENDING && end - drained < GIVE_UP_AFTER)
			break;
		drained++;
		if (state == LINE_HIDDEN)
			continue;
		if (state != LINE_READ) {
			lost++;
			continue;
		}
		if (lost)
			report_lost(lost);
		lost = 0;
		carry(text);
	}
	if (lost)
		report_lost(lost);
}

void log_set_sink(void (*sink)(const char *line))
{
	line_sink = sink;
}

void log_replay(unsigned count, void (*line)(void *context, const char *text), void *context)
{
	uint64_t end = __atomic_load_n(&next_number, __ATOMIC_ACQUIRE);
	uint64_t kept = min_u64(min_u64(end, LINES), count);
	char text[sizeof(ring[0].text)];

	for (uint64_t number = end - kept; number < end; number++)
		if (read_slot(number, text) == LINE_READ)
			line(context, text);
}
