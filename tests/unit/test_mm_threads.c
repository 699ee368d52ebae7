/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c lib/format.c
// threads
/*
 * Four CPUs at once: two machines with two vcpus each, that allocate and free frames, tables and blocks, use the
 * heap and clear ahead, while a fifth thread reads totals and runs the check. Each frame is stamped by who
 * has it: a frame with two owners shows at once, and TSan sees any access that isn't ordered.
 */
#include <pthread.h>

#define WORLD_STRICT 17u
#include "test_mm_world.h"

#define WORLD (32 * MIB)
#define VCPUS 4u
#define ROUNDS 15000u
#define HELD 200u

extern __thread unsigned test_cpu;
extern unsigned test_cpu_count;

struct vcpu {
	unsigned cpu;
	struct account *account;
	uint64_t seed;
	struct {
		hpa_t frame;
		uint8_t kind;
	} held[HELD];
	unsigned count;
};

static uint32_t running;

#define must(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s fails\n", __FILE__, __LINE__, #condition);                          \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static uint64_t random_next(struct vcpu *vcpu)
{
	vcpu->seed = vcpu->seed * 6364136223846793005u + 1442695040888963407u;
	return vcpu->seed >> 33;
}

static uint64_t stamp_of(const struct vcpu *vcpu, hpa_t frame)
{
	return frame.v << 8 | (vcpu->cpu + 1);
}

static void gain(struct vcpu *vcpu, hpa_t frame, uint8_t kind)
{
	uint64_t *words = host_memory_at(frame);

	if (kind != ACCOUNT_KINDS)
		must(!words[0] && !words[100] && !words[511]);
	words[0] = words[100] = words[511] = stamp_of(vcpu, frame);
	vcpu->held[vcpu->count].frame = frame;
	vcpu->held[vcpu->count++].kind = kind;
}

static void lose(struct vcpu *vcpu, unsigned index, struct gather *gather)
{
	hpa_t frame = vcpu->held[index].frame;
	uint64_t *words = host_memory_at(frame), stamp = stamp_of(vcpu, frame);

	must(words[0] == stamp && words[100] == stamp && words[511] == stamp);
	if (vcpu->held[index].kind == ACCOUNT_KINDS)
		gather_block(gather, frame);
	else
		gather_frame(gather, frame, vcpu->held[index].kind);
	vcpu->held[index] = vcpu->held[--vcpu->count];
}

static void lose_some(struct vcpu *vcpu, unsigned count)
{
	struct gather gather;

	gather_begin(&gather, NULL, vcpu->account);
	while (count-- && vcpu->count)
		lose(vcpu, (unsigned)(random_next(vcpu) % vcpu->count), &gather);
	gather_finish(&gather);
}

static void use_heap(struct vcpu *vcpu)
{
	size_t size = 1 + random_next(vcpu) % 9000;
	uint8_t *object = heap_alloc(size);

	if (!object)
		return;
	must(!object[0] && !object[size - 1]);
	object[0] = object[size - 1] = 1;
	heap_free(object, size);
}

static void one_round(struct vcpu *vcpu)
{
	hpa_t frames[16], frame;
	unsigned got = 0;
	bool zero;

	if (vcpu->count + 16 >= HELD)
		lose_some(vcpu, 100);
	switch (random_next(vcpu) % 9) {
	case 0:
	case 1:
	case 2:
		if (frame_alloc(vcpu->account, ACCOUNT_BASE, gpa(0x1000), &frame) == OK)
			gain(vcpu, frame, ACCOUNT_BASE);
		break;
	case 3:
		if (frame_alloc_many(vcpu->account, ACCOUNT_BASE, 16, frames, &got) != OK)
			got = 0;
		while (got)
			gain(vcpu, frames[--got], ACCOUNT_BASE);
		break;
	case 4:
		if (table_alloc(vcpu->account, &frame) == OK)
			gain(vcpu, frame, ACCOUNT_TABLE);
		break;
	case 5:
		if (block_alloc(vcpu->account, gpa(0), &frame, &zero) == OK)
			gain(vcpu, frame, ACCOUNT_KINDS);
		break;
	case 6: lose_some(vcpu, (unsigned)(random_next(vcpu) % 40)); break;
	case 7: use_heap(vcpu); break;
	default:
		for (unsigned i = 0; i < 5; i++)
			frame_prezero_step();
	}
}

static void *run_vcpu(void *context)
{
	struct vcpu *vcpu = context;

	test_cpu = vcpu->cpu;
	for (unsigned i = 0; i < ROUNDS; i++)
		one_round(vcpu);
	lose_some(vcpu, HELD);
	__atomic_fetch_sub(&running, 1, __ATOMIC_RELEASE);
	return NULL;
}

/*
 * A thread of Linux, unlike a CPU of ours, can be stopped between its charge and its frame for as long as a whole check
 * takes: what accounts say is left to the check at the end.
 */
static void on_finding(void *context, const char *line)
{
	if (strstr(line, "is charged"))
		return;
	fprintf(stderr, "check: %s\n", line);
	abort();
}

/* A machine that comes and goes, and the looks of an operator. */
static void *run_monitor(void *context)
{
	test_cpu = VCPUS;
	while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
		struct account *account = open_account(100, 4, 0);
		struct frame_totals totals = totals_now();
		struct frame_info info;
		hpa_t frame;

		must(totals.free_pages <= totals.pages);
		if (frame_alloc(account, ACCOUNT_BASE, gpa(0), &frame) == OK) {
			frame_describe(frame, &info);
			must(info.state == FRAME_PRIVATE && info.owner == account->owner);
			free_one(account, frame, ACCOUNT_BASE);
		}
		close_account(account);
		for (uint64_t at = 0; at < WORLD; at += 64 * PAGE_SIZE)
			frame_describe(hpa(at), &info);
		frame_check(on_finding, NULL);
	}
	return NULL;
}

static void test_all_at_once(void **state)
{
	static struct vcpu vcpus[VCPUS];
	struct frame_totals before, after;
	pthread_t threads[VCPUS + 1];
	struct account *a, *b;

	test_cpu_count = VCPUS + 1;
	before = totals_now();
	/* More than there is, so that shortage and the calling in of reserves happen too. */
	account_policy(OVERCOMMIT_RATIO, 1000);
	a = open_account(12000, 300, 0);
	b = open_account(12000, 300, 0);
	running = VCPUS;
	for (unsigned i = 0; i < VCPUS; i++) {
		vcpus[i] = (struct vcpu){ .cpu = i, .account = i < 2 ? a : b, .seed = i + 1 };
		assert_int_equal(pthread_create(&threads[i], NULL, run_vcpu, &vcpus[i]), 0);
	}
	assert_int_equal(pthread_create(&threads[VCPUS], NULL, run_monitor, NULL), 0);
	for (unsigned i = 0; i <= VCPUS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	close_account(a);
	close_account(b);
	test_cpu = 0;
	assert_int_equal(frame_check(print_finding, NULL), 0);
	after = totals_now();
	assert_int_equal(after.split_chunks, 0);
	assert_int_equal(after.large_chunks, 0);
	assert_int_equal(after.free_chunks + after.kernel_chunks, before.free_chunks + before.kernel_chunks);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_all_at_once) };

	world_start(WORLD);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
