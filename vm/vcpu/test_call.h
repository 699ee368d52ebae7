/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of the test guests (machines with test_ports = on): VMCALL on Intel, VMMCALL on AMD, at CPL 0, with the call's
 * number in EAX and the guest-physical address of its block, eight-byte aligned and in RAM, in EBX. Everything else that
 * executes these instructions gets #UD. This file is the guests' header too: nothing but fixed-width types.
 */
#pragma once

#include <stdint.h>

#define TEST_CALL_WALK 0x51570001u

#define TEST_CALL_SLAT 0x51570002u
#define TEST_CALL_DONE 0x51570003u

#define TEST_ACCESS_SYSTEM 8u /* a read by the processor itself, as supervisor */

/* What an access would end in. */
enum test_verdict {
	TEST_WALK_OK,
	TEST_WALK_PAGE_FAULT,
	TEST_WALK_PROTECTION, /* #GP: the address is not canonical */
	TEST_WALK_BAD_CR3,    /* #GP already at the MOV to CR3 */
	TEST_WALK_OTHER,
};

/*
 * Predicts MOV to CR3 and one access behind it: by the vcpu's own registers but CR3, CPL and EFLAGS.AC, with the
 * guest's tables as they are, and without marking anything accessed or dirty.
 */
struct test_walk {
	uint64_t cr3, gva;    /* in */
	uint32_t access, cpl; /* ACCESS_*: 1 read, 2 write, 4 execute; TEST_ACCESS_SYSTEM */
	uint32_t rflags;
	uint32_t verdict;    /* out: enum test_verdict */
	uint32_t error_code; /* of the page fault */
	uint32_t steps;      /* entries read */
	uint64_t gpa;
	struct {
		uint64_t where, marks; /* an entry, and the bits that the access sets in it */
	} step[5];
};

/* What a second-level entry makes of an access. */
enum test_slat_verdict {
	TEST_SLAT_FINE,
	TEST_SLAT_VIOLATION,
	TEST_SLAT_MISCONFIGURED,
	TEST_SLAT_REFUSED, /* the hypervisor doesn't make such an entry (pgm/slat/judge.h) */
	TEST_SLAT_ABSENT,  /* there is no entry of that level */
	TEST_SLAT_AGAIN,   /* something came between: try again */
	TEST_SLAT_OTHER,
};

/*
 * Changes the second-level entry of `level` for `where`, and lets the guest go on until its next exit: the code behind the call,
 * all in one page and without paging, makes one access there and then TEST_CALL_DONE. The entry is as before when the guest goes on
 * after that. Only with one host processor.
 */
struct test_slat {
	uint64_t where, mask, bits; /* in: the bits of the mask are replaced */
	uint32_t level, access;
	uint32_t told, seen; /* out: enum test_slat_verdict */
	uint64_t old, value;
	uint64_t exit; /* of the access, as the processor names it */
};
