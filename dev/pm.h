/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI fixed hardware: PM1a event and control blocks, PM timer. ACPI specification 6.4, section 4.8.3. */
#pragma once

#include "dev/bus.h"

/* What the FADT says: SMI_CMD is 0 (always in ACPI mode), TMR_VAL_EXT is set, DSDT has _S5 = 5. */
#define PM_EVENT_BLOCK 0x600
#define PM_EVENT_LENGTH 4
#define PM_CONTROL_BLOCK 0x604
#define PM_CONTROL_LENGTH 2
#define PM_TIMER_BLOCK 0x608
#define PM_TIMER_HZ 3579545u
#define PM_SCI_LINE 9u
#define PM_SLEEP_TYPE_S5 5u

struct pm;

/* NO_MEMORY, CONFLICT. */
enum status pm_create(struct bus *bus, struct pm **out) must_check;
void pm_reset(struct pm *pm);
/* The RTC's alarm: it wakes a guest that sleeps. */
void pm_alarm(struct pm *pm);
/* Somebody pressed the power button: the guest may shut itself down. */
void pm_power_button(struct pm *pm);
