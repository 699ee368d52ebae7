/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of a machine's device timers: a singly linked list in order of deadline, first
 * armed first among equals. A timer is on the list exactly while it is armed.
 *
 * A guest chooses deadlines, so the work of one call must not depend on them: a timer that
 * arms itself again in the past fires at most TIMER_BURST times a call and then waits for
 * the next one, without holding up the timers behind it.
 */
#include "dev/bus.h"

#define TIMER_BURST 64u

void timer_cancel(struct timer_queue *queue, struct dev_timer *timer)
{
	struct dev_timer **link = &queue->first;

	if (!timer->armed)
		return;
	while (*link && *link != timer)
		link = &(*link)->next;
	if (*link)
		*link = timer->next;
	timer->next = NULL;
	timer->armed = false;
}

/* Arms the timer at `deadline` (nanoseconds of the machine's clock), whether or not it was armed before. */
void timer_arm(struct timer_queue *queue, struct dev_timer *timer, uint64_t deadline)
{
	struct dev_timer **link = &queue->first;

	timer_cancel(queue, timer);
	while (*link && (*link)->deadline <= deadline)
		link = &(*link)->next;
	timer->deadline = deadline;
	timer->armed = true;
	timer->next = *link;
	*link = timer;
}

uint64_t timer_next(const struct timer_queue *queue)
{
	return queue->first ? queue->first->deadline : UINT64_MAX;
}

/* The first timer that is due and has not used up its share of this call. */
static struct dev_timer *next_due(const struct timer_queue *queue, uint64_t now)
{
	for (struct dev_timer *timer = queue->first; timer && timer->deadline <= now; timer = timer->next)
		if (timer->run != queue->run || timer->fired < TIMER_BURST)
			return timer;
	return NULL;
}

void timer_run(struct timer_queue *queue, uint64_t now)
{
	struct dev_timer *timer;

	if (!queue->first || queue->first->deadline > now)
		return;
	queue->run++;
	while ((timer = next_due(queue, now))) {
		if (timer->run != queue->run) {
			timer->run = queue->run;
			timer->fired = 0;
		}
		timer->fired++;
		timer_cancel(queue, timer);
		timer->fire(timer->device, now);
	}
}
