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

/* X(kind, the name that statistics give it, what it is). */
#define EXIT_LIST(X)                                                                                                   \
	X(NOTHING, "nothing", "settled in the backend")                     /* just run again */                       \
	X(HOST_INTERRUPT, "host-interrupt", "interrupt or NMI of the host") /* it has been taken */                    \
	X(SLICE, "slice", "time slice over") /* the deadline's, or the backend's longest */                            \
	X(HLT, "hlt", "HLT")                                                                                           \
	X(PAUSE, "pause", "PAUSE in a loop")                                                                           \
	X(CPUID, "cpuid", "CPUID")                                                                                     \
	X(IO, "io", "port access")                                                                                     \
	X(MSR_READ, "msr-read", "RDMSR") /* ECX names it */                                                            \
	X(MSR_WRITE, "msr-write", "WRMSR")                                                                             \
	X(CR_ACCESS, "cr-access", "control register")                                                                  \
	X(DR_ACCESS, "dr-access", "debug register")                                                                    \
	X(XSETBV, "xsetbv", "XSETBV")                                                                                  \
	X(CACHE, "cache", "INVD, WBINVD") /* to be stepped over */                                                     \
	X(INVLPG, "invlpg", "INVLPG")                                                                                  \
	X(RDTSC, "rdtsc", "RDTSC")                                                                                     \
	X(RDTSCP, "rdtscp", "RDTSCP")                                                                                  \
	X(HYPERCALL, "hypercall", "VMCALL, VMMCALL")                                                                   \
	X(UNDEFINED, "undefined", "instruction that this guest must not have") /* #UD */                               \
	X(NESTED, "nested", "instruction of the virtualisation extension")     /* hv_nested.h */                       \
	X(SLAT_FAULT, "slat-fault", "second-level fault")                                                              \
	X(SLAT_MISCONFIG, "slat-misconfig", "second-level entry marked for emulation") /* or a bug */                  \
	X(DIRTY_FULL, "dirty-full", "full list of written pages")                      /* handed over by now */        \
	X(EXCEPTION, "exception", "intercepted exception")                             /* #DB, #AC, #UD, #MC ... */    \
	X(INTERRUPT_WINDOW, "interrupt-window", "guest can take an interrupt")         /* as was wanted */             \
	X(NMI_WINDOW, "nmi-window", "guest can take an NMI")                                                           \
	X(TRIPLE_FAULT, "triple-fault", "triple fault")                                                                \
	X(INIT, "init", "INIT")                                                                                        \
	X(SIPI, "sipi", "start-up IPI") /* vector in sipi_vector */                                                    \
	X(TASK_SWITCH, "task-switch", "hardware task switch")                                                          \
	X(INVALID_STATE, "invalid-state", "state that the processor refused") /* failure says what */                  \
	X(UNKNOWN, "unknown", "reason that nobody asked for")                 /* raw_reason */

enum hv_exit_kind {
#define EXIT_ENUM(kind, name, text) EXIT_##kind,
	EXIT_LIST(EXIT_ENUM)
#undef EXIT_ENUM
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
