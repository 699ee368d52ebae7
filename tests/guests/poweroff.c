/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI sleep state S5: SLP_TYP 5 and SLP_EN in the PM1a control register. */
#include "guest.h"

#define PM_CONTROL 0x604

void guest_main(void)
{
	print("powering off\n");
	check_equal(in16(PM_CONTROL) & 1, 1); /* ACPI mode */
	out16(PM_CONTROL, 5 << 10 | 1 << 13);
	print("FAILED: still here\n");
	failures++;
}
