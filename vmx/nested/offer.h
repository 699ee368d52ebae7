/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What L1's processor can do, as its capability MSRs tell it (Intel SDM vol. 3 appendix A): what the host's has, or what Quire does
 * itself. Entry checks (check.h) go by the same numbers. Pure.
 */
#pragma once

#include "vmx/capability.h"

#define OFFER_FIRST MSR_VMX_BASIC
#define OFFER_LAST MSR_VMX_TRUE_ENTRY

struct vmx_offer {
	uint64_t msr[OFFER_LAST - OFFER_FIRST + 1];
};

/* cr4_valid: bits that L1 may set, by its CPUID. */
void vmx_offer_make(struct vmx_offer *offer, const struct vmx_capability *host, uint64_t cr4_valid);

static inline uint64_t vmx_offered(const struct vmx_offer *offer, uint32_t msr)
{
	return offer->msr[msr - OFFER_FIRST];
}

/* Is the word within such an MSR: its low half must be 1, its high half may be (section A.2)? */
static inline bool vmx_offer_allows(const struct vmx_offer *offer, uint32_t msr, uint64_t word)
{
	uint64_t limits = vmx_offered(offer, msr);

	return !((uint32_t)limits & ~word) && !(word & ~(limits >> 32));
}

/* Is the register within such a pair, FIXED0 and FIXED1 (sections A.7, A.8)? loose: bits that may be 0 all the same. */
static inline bool vmx_offer_fixes(const struct vmx_offer *offer, uint32_t fixed0, uint64_t value, uint64_t loose)
{
	return !(vmx_offered(offer, fixed0) & ~loose & ~value) && !(value & ~vmx_offered(offer, fixed0 + 1));
}
