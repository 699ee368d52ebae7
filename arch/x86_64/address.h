/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The four kinds of address. Each is a struct of one member, so that the compiler
 * refuses a mix-up; `.v` is the number. They cost nothing at run time.
 *
 *   hpa_t   host-physical
 *   gpa_t   guest-physical of a machine (L1)
 *   ngpa_t  guest-physical of a nested guest (L2)
 *   gva_t   guest-linear (after segmentation)
 */
#pragma once

#include "lib/bits.h"

typedef struct {
	uint64_t v;
} hpa_t;
typedef struct {
	uint64_t v;
} gpa_t;
typedef struct {
	uint64_t v;
} ngpa_t;
typedef struct {
	uint64_t v;
} gva_t;

static inline hpa_t hpa(uint64_t v)
{
	return (hpa_t){ v };
}
static inline gpa_t gpa(uint64_t v)
{
	return (gpa_t){ v };
}
static inline ngpa_t ngpa(uint64_t v)
{
	return (ngpa_t){ v };
}
static inline gva_t gva(uint64_t v)
{
	return (gva_t){ v };
}

#define HPA_NONE hpa(~UINT64_C(0))

static inline bool hpa_is_none(hpa_t a)
{
	return a.v == ~UINT64_C(0);
}

#define PAGE_SHIFT 12
#define PAGE_SIZE (UINT64_C(1) << PAGE_SHIFT)
#define BLOCK_SHIFT 21
#define BLOCK_SIZE (UINT64_C(1) << BLOCK_SHIFT)
#define PAGES_PER_BLOCK 512u
