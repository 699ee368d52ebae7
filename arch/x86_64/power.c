/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways to turn the machine off and to restart it, best first, each tried in turn; only when the last has done
 * nothing does the CPU stop. ACPI 6.5 sections 4.8.3.2, 4.8.3.6, 7.4.
 */
#include "arch/x86_64/acpi.h"
#include "arch/x86_64/console.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/panic.h"
#include "arch/x86_64/time.h"
#include "arch/x86_64/traps.h"

#define PM1_SCI_ENABLE 0x0001u
#define PM1_WAKE_STATUS 0x8000u /* a one clears it */
#define PM1_SLEEP_TYPE_SHIFT 10
#define PM1_SLEEP_TYPE_MASK 0x1c00u
#define PM1_SLEEP_ENABLE 0x2000u
#define REDUCED_SLEEP_TYPE_SHIFT 2
#define REDUCED_SLEEP_ENABLE 0x20u
#define SETTLE_NS UINT64_C(200000000)
#define ENABLE_STEP_NS UINT64_C(1000000)
#define ENABLE_STEPS 300u

static void last_words(void)
{
	interrupts_off();
	panic_stop_others();
	log_drain();
	serial_flush();
}

/* Some chipsets ignore the sleep bits until firmware has been asked for ACPI mode. */
static void enter_acpi_mode(const struct acpi_power *power, const struct acpi_register *control)
{
	if (!power->smi_command || !power->acpi_enable || acpi_read(control, 16) & PM1_SCI_ENABLE)
		return;
	out8(power->smi_command, power->acpi_enable);
	for (unsigned i = 0; i < ENABLE_STEPS && !(acpi_read(control, 16) & PM1_SCI_ENABLE); i++)
		time_wait_ns(ENABLE_STEP_NS);
}

/* The type goes to both registers before the enable bit does, and an old wake-up is forgotten first: ACPI 6.5 section 16.1. */
static void pm1_sleep(const struct acpi_power *power)
{
	const uint8_t type[2] = { power->s5_type_a & 7, power->s5_type_b & 7 };
	struct acpi_register control[2], status;
	uint32_t value[2];

	if (acpi_open(&power->pm1_control[0], 16, &control[0]))
		enter_acpi_mode(power, &control[0]);
	for (unsigned i = 0; i < 2; i++) {
		if (acpi_open(&power->pm1_status[i], 16, &status))
			acpi_write(&status, 16, PM1_WAKE_STATUS);
		if (!acpi_open(&power->pm1_control[i], 16, &control[i]))
			continue;
		value[i] = (acpi_read(&control[i], 16) & ~(PM1_SLEEP_TYPE_MASK | PM1_SLEEP_ENABLE)) |
			   (uint32_t)type[i] << PM1_SLEEP_TYPE_SHIFT;
		acpi_write(&control[i], 16, value[i]);
	}
	for (unsigned i = 0; i < 2; i++)
		if (control[i].port || control[i].memory)
			acpi_write(&control[i], 16, value[i] | PM1_SLEEP_ENABLE);
}

/* A register of 8 bits that is written once; false: it can't be reached. */
static bool write_once(const struct acpi_address *where, uint8_t value)
{
	struct acpi_register r;
	bool there = acpi_open(where, 8, &r);

	if (there)
		acpi_write(&r, 8, value);
	return there;
}

static void acpi_s5(void)
{
	const struct acpi_power *power = acpi_power();

	if (!power->has_s5)
		return;
	if (power->hardware_reduced) {
		if (!write_once(&power->sleep_control,
				(uint8_t)(power->s5_type_a << REDUCED_SLEEP_TYPE_SHIFT | REDUCED_SLEEP_ENABLE)))
			log_line(LOG_ERROR "power: the sleep register can't be reached");
	} else {
		pm1_sleep(power);
	}
	time_wait_ns(SETTLE_NS);
}

/*
 * Quirks of emulators that come without ACPI tables. The ports belong to nothing else there; on real hardware this
 * is reached
 * only when S5 isn't known or has done nothing.
 */
static const struct emulator_port {
	const char *name;
	uint16_t port, value;
} emulator_ports[] = {
	{ "QEMU q35", 0x604, 0x2000 },
	{ "QEMU i440fx and Bochs", 0xb004, 0x2000 },
};

#define BOCHS_PORT 0x8900u

void host_poweroff(void)
{
	static const char shutdown[] = "Shutdown";

	log_line("power: off");
	last_words();
	acpi_s5();
	for (unsigned i = 0; i < ARRAY_SIZE(emulator_ports); i++)
		out16(emulator_ports[i].port, emulator_ports[i].value);
	for (unsigned i = 0; i < sizeof(shutdown) - 1; i++)
		out8(BOCHS_PORT, (uint8_t)shutdown[i]);
	time_wait_ns(SETTLE_NS);
	log_line("power: this machine can't turn itself off; it is safe to do so by hand");
	log_drain();
	panic_stop_here();
}

#define RESET_PORT 0xcf9u
#define KEYBOARD_PORT 0x64u
#define KEYBOARD_BUSY 0x02u
#define KEYBOARD_PULSE_RESET 0xfeu
#define KEYBOARD_READS 100000u

static void keyboard_reset(void)
{
	for (unsigned i = 0; i < KEYBOARD_READS && in8(KEYBOARD_PORT) & KEYBOARD_BUSY; i++)
		__builtin_ia32_pause();
	out8(KEYBOARD_PORT, KEYBOARD_PULSE_RESET);
	time_wait_ns(SETTLE_NS / 4);
}

void host_reboot(void)
{
	const struct table_pointer no_table = { 0, 0 };
	const struct acpi_power *power = acpi_power();

	log_line("power: restart");
	last_words();
	if (power->has_reset && write_once(&power->reset, power->reset_value))
		time_wait_ns(SETTLE_NS / 4);
	out8(RESET_PORT, 0x02); /* hard reset chosen, then asked for */
	out8(RESET_PORT, 0x06);
	time_wait_ns(SETTLE_NS / 4);
	keyboard_reset();
	/* An interrupt without a table: triple fault. */
	__asm__ volatile("lidt %0; int3" : : "m"(no_table));
	panic_stop_here();
}
