/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a guest came out, in one record for both vendors, and the events that go into it. Part of the vendor seam, hv.h. A backend
 * fills the record whole at each exit; vm/ reads it, and may complete what the processor did not tell.
 */
#pragma once

#include "arch/x86_64/address.h"

enum hv_event_kind {
	EVENT_NONE,
	EVENT_INTERRUPT, /* external */
	EVENT_NMI,
	EVENT_EXCEPTION,      /* a fault, trap or abort with a vector; #BP and #OF from INT3/INTO too */
	EVENT_SOFT_INTERRUPT, /* INT n; length is the instruction's */
};

struct hv_event {
	uint8_t kind; /* enum hv_event_kind */
	uint8_t vector;
	bool has_error_code;
	bool soft;      /* exception from INT3 or INTO: rip is advanced by length on delivery */
	uint8_t length; /* bytes of the instruction behind a soft event */
	uint32_t error_code;
};

static inline struct hv_event hv_exception(uint8_t vector, bool has_error_code, uint32_t error_code)
{
	return (struct hv_event){ EVENT_EXCEPTION, vector, has_error_code, .error_code = error_code };
}

enum hv_exit_kind {
	EXIT_NOTHING,        /* the backend has handled it; just run again */
	EXIT_HOST_INTERRUPT, /* a host interrupt or NMI came and has been taken */
	EXIT_SLICE,          /* slice_deadline has come, or the backend's longest slice is over */
	EXIT_HLT,
	EXIT_PAUSE,
	EXIT_CPUID,
	EXIT_IO,
	EXIT_MSR_READ, /* ECX names it */
	EXIT_MSR_WRITE,
	EXIT_CR_ACCESS,
	EXIT_DR_ACCESS,
	EXIT_XSETBV,
	EXIT_CACHE, /* INVD, WBINVD: nothing to do but step over it */
	EXIT_INVLPG,
	EXIT_RDTSC,
	EXIT_RDTSCP,
	EXIT_HYPERCALL, /* VMCALL, VMMCALL */
	EXIT_UNDEFINED, /* an instruction this guest must not have: #UD */
	EXIT_NESTED,    /* one of the virtualisation extension's: see hv_nested.h */
	EXIT_SLAT_FAULT,
	EXIT_SLAT_MISCONFIG,   /* reserved bits: the MMIO mark, or a bug */
	EXIT_DIRTY_FULL,       /* the list of written pages was full, and has been handed over */
	EXIT_EXCEPTION,        /* intercepted: #DB, #AC, #UD, #MC ... */
	EXIT_INTERRUPT_WINDOW, /* want_interrupt_window, and the guest can take one now */
	EXIT_NMI_WINDOW,
	EXIT_TRIPLE_FAULT,
	EXIT_INIT,
	EXIT_SIPI, /* vector in sipi_vector */
	EXIT_TASK_SWITCH,
	EXIT_INVALID_STATE, /* the processor refused the guest's state; failure says what */
	EXIT_UNKNOWN,       /* raw_reason is one nobody asked for */
	EXIT_KIND_COUNT
};

/* What asks for a task switch, numbered as VMX does. */
enum task_source { TASK_CALL, TASK_IRET, TASK_JMP, TASK_GATE };

#define ACCESS_READ 1u
#define ACCESS_WRITE 2u
#define ACCESS_EXECUTE 4u

struct hv_exit {
	enum hv_exit_kind kind;
	uint8_t length;     /* of the instruction; 0: not known, decode it */
	uint8_t byte_count; /* bytes[] as fetched by the processor; 0: none given */
	uint8_t bytes[15];
	uint64_t raw_reason;         /* VMX basic exit reason or SVM exit code, for messages */
	struct hv_event interrupted; /* the event whose delivery this exit broke off; must come again */
	union {
		struct {
			uint16_t port;
			uint8_t size;         /* 1, 2, 4 */
			bool in, string, rep; /* string: hand it to the emulator */
		} io;
		struct {
			uint8_t number; /* 0, 3, 4, 8 */
			uint8_t gpr;
			bool write, clts, lmsw;
			bool decoded; /* false: gpr and the rest unknown, number and write are right: decode */
			uint16_t lmsw_source;
		} cr;
		struct {
			uint8_t number, gpr;
			bool write, decoded;
		} dr;
		struct {
			gpa_t gpa;
			gva_t gva;
			bool gva_valid;
			bool guest_table; /* the processor was reading or updating a guest page table */
			uint8_t access;   /* ACCESS_* that was tried */
			uint8_t rights;   /* ACCESS_* that the entry granted; 0: not present */
		} slat;
		struct {
			uint8_t vector;
			bool has_error_code;
			uint32_t error_code;
			uint64_t detail; /* #PF: the address; #DB: DR6 bits */
		} exception;
		struct {
			uint64_t code;
			const char *text; /* NULL when the processor gives none */
		} failure;
		struct {
			uint16_t selector; /* of the new TSS */
			uint8_t source;    /* enum task_source */
		} task;
		uint8_t sipi_vector;
	};
};
