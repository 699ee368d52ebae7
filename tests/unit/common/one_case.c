/* SPDX-License-Identifier: Apache-2.0 */
/* QUIRE_CASE=test_x build/unit/test_y runs that one case of a unit program; * and ? match as in the shell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

__attribute__((constructor)) static void choose_case(void)
{
	const char *pattern = getenv("QUIRE_CASE");

	if (pattern)
		cmocka_set_test_filter(pattern);
}
