/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmark of over-commit on Linux: four guests under KVM (kvm.c, a process each), through whose memory KSM looks while they stand still.
 *
 *     ksm GUEST.elf
 *
 * KSM never sleeps meanwhile, and what it takes is the time stamp counter's, up to the end of the last pass that won anything; the pass behind it is
 * what looking costs when nothing is to be found. Zero pages are shared with the kernel's (use_zero_pages). Memory held is
 * AnonPages, all that it costs the host what isn't free: both against what they were before the first guest.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GUESTS 4
#define SCANS_LEAST 3 /* the first only takes checksums */
#define KSM "/sys/kernel/mm/ksm/"

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		fail(path);
	close(fd);
}

static long number(const char *path, const char *name)
{
	char line[128];
	long value = -1;
	FILE *f = fopen(path, "r");

	if (!f)
		fail(path);
	while (value < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)))
			value = atol(line + strlen(name));
	fclose(f);
	if (value < 0)
		fail(name);
	return value;
}

/* Of the host's memory, in pages; the counts of every processor are added up first. */
static long held(void)
{
	set("/proc/sys/vm/stat_refresh", "1");
	return number("/proc/meminfo", "AnonPages:") / 4;
}

/* With what waits in the processors' own lists, which hold ten thousands. */
static long unused(void)
{
	long pages = number("/proc/meminfo", "MemFree:") / 4, some;
	char line[128];
	FILE *f = fopen("/proc/zoneinfo", "r");

	if (!f)
		fail("zoneinfo");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, " count: %ld", &some) == 1)
			pages += some;
	fclose(f);
	return pages;
}

static uint64_t ticks(void)
{
	return __builtin_ia32_rdtsc();
}

static void row(const char *what, uint64_t spent, long count)
{
	printf("row %s mode %lu sum 0x%lx count %ld\n", what, (unsigned long)spent / (unsigned long)count,
	       (unsigned long)spent, count);
}

static void pages_row(const char *what, long count)
{
	row(what, (uint64_t)count, 1);
}

/* Until it asks for its host's turn. */
static pid_t start(char *guest, int name)
{
	char more[16];
	int status;
	pid_t child = fork();

	snprintf(more, sizeof(more), "name=%d", name);
	if (!child) {
		execl("/kvm", "/kvm", guest, "4k", "0", more, NULL);
		fail("/kvm");
	}
	if (child < 0 || waitpid(child, &status, WUNTRACED) < 0)
		fail("start");
	if (!WIFSTOPPED(status)) {
		fprintf(stderr, "guest %d ended\n", name);
		exit(1);
	}
	return child;
}

static void end(pid_t child)
{
	int status;

	if (kill(child, SIGCONT) || waitpid(child, &status, 0) < 0)
		fail("end");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		printf("bench: a guest failed: 0x%x\n", status);
}

static void look_for_equals(void)
{
	long filled = held(), after = filled, before, scans = 0;
	uint64_t first, last, now;

	set(KSM "sleep_millisecs", "0");
	set(KSM "pages_to_scan", "100000000");
	set(KSM "use_zero_pages", "1");
	now = first = ticks();
	set(KSM "run", "1");
	do {
		last = now;
		before = after;
		while (number(KSM "full_scans", "") == scans)
			nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
		now = ticks();
		scans = number(KSM "full_scans", "");
		after = held();
	} while (scans < SCANS_LEAST || after < before);
	set(KSM "run", "0");
	row("fuse", last - first, filled - after);
	row("look", now - last, filled);
	printf("ksm: %ld passes, %ld shared, %ld sharing\n", scans, number(KSM "pages_shared", ""),
	       number(KSM "pages_sharing", ""));
}

int main(int argc, char **argv)
{
	long anon = held(), free = unused();
	pid_t guest[GUESTS];

	if (argc < 2)
		return 2;
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	for (int i = 0; i < GUESTS; i++)
		guest[i] = start(argv[1], i + 1);
	pages_row("held_before", held() - anon);
	pages_row("host_before", free - unused());
	look_for_equals();
	pages_row("held_after", held() - anon);
	pages_row("host_after", free - unused());
	fflush(stdout);
	for (int i = 0; i < GUESTS; i++)
		end(guest[i]);
	return 0;
}
