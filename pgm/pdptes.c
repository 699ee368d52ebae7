/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entries of PAE's top level, which a processor holds in registers of its own: read at CR3 when that or a mode is
 * loaded, all four or none. Walks take them from there (walk.c). Called for a vcpu that is stopped in an exit.
 */
#include "pgm/walk.h"

enum status guest_load_pdptes(struct pgm *pgm, uint64_t cr3, unsigned physical_bits, uint64_t pdpte[4])
{
	uint64_t reserved = pt_pae.reserved_table[2] | (BITS(51, 12) & ~(BIT(physical_bits) - 1));
	uint64_t fresh[4] = { 0 };

	TRY(pgm_read(pgm, gpa(cr3 & BITS(31, 5)), fresh, sizeof(fresh), ORIGIN_GUEST, NULL));
	for (unsigned i = 0; i < 4; i++)
		if ((fresh[i] & 1) && (fresh[i] & reserved))
			return DENIED;
	for (unsigned i = 0; i < 4; i++)
		pdpte[i] = fresh[i];
	return OK;
}
