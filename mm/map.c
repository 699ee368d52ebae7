/* SPDX-License-Identifier: Apache-2.0 */
/* What mm/map.h stands on: where memory is mapped, and whether all of it is. */
#include "mm/map.h"

uint8_t *direct_map SET_ONCE;
bool secret_free SET_ONCE;
