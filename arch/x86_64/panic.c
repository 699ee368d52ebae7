/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of the hypervisor. One CPU wins the right to speak, the others are stopped by NMI (or stop
 * when they panic themselves); what the log still holds is printed first, because it
 * often tells why. Works from the first C instruction on, before paging too.
 */
#include "arch/x86_64/panic.h"

#include "arch/x86_64/console.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/cpu_local.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "lib/format.h"

_Noreturn void __stack_chk_fail(void);

#define NOBODY UINT32_MAX
#define SETTLE_SPINS 200000u /* time for the others to stop printing; bounded, precise length doesn't matter */

void (*host_on_stop)(void);

static uint32_t speaker = NOBODY;
static bool stopping; /* for power off or restart */

bool panic_stops_all(void)
{
	return __atomic_load_n(&speaker, __ATOMIC_ACQUIRE) != NOBODY || __atomic_load_n(&stopping, __ATOMIC_ACQUIRE);
}

void panic_stop_here(void)
{
	for (;;)
		__asm__ volatile("cli; hlt" : : : "memory");
}

/* Those that run our code: an NMI to all would reach some in what was the firmware's loop. */
static void stop_others(void)
{
	for (unsigned i = 0; i < cpu_count(); i++)
		if (cpu_record(i) != this_cpu())
			host_kick(i, true);
	for (unsigned i = 0; i < SETTLE_SPINS && cpu_count() > 1; i++)
		__builtin_ia32_pause();
}

void panic_stop_others(void)
{
	__atomic_store_n(&stopping, true, __ATOMIC_RELEASE);
	stop_others();
	if (host_on_stop)
		host_on_stop();
}

void panic_begin(void)
{
	uint32_t nobody = NOBODY;

	interrupts_off();
	if (!__atomic_compare_exchange_n(&speaker, &nobody, cpu_index(), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		/* A second panic on the speaking CPU is a fault in the printing itself: nothing more can be said. */
		panic_stop_here();
	}
	stop_others();
	log_set_sink(NULL);
	(void)console_choose(true, true);
	log_drain();
	console_write("\r\n", 2);
}

void panic_line(const char *format, ...)
{
	char line[256];
	size_t length;

	length = format_arguments(line, sizeof(line), format);
	console_write("PANIC: ", 7);
	console_write(line, length < sizeof(line) ? length : sizeof(line) - 1);
	console_write("\r\n", 2);
}

void panic_end(void)
{
	panic_line("CPU %u stopped, and with it the machine", cpu_index());
	panic_stop_here();
}

void panic(const char *format, ...)
{
	char line[224];

	format_arguments(line, sizeof(line), format);
	panic_begin();
	panic_line("CPU %u: %s", cpu_index(), line);
	panic_line("  called from %016lx", (uint64_t)__builtin_return_address(0));
	panic_end();
}

void __stack_chk_fail(void)
{
	panic("stack overrun noticed at %016lx", (uint64_t)__builtin_return_address(0));
}
