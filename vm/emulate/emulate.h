/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instruction emulator: finishes one instruction that the processor couldn't, for MMIO,
 * for exits without decode help, and for modes that hardware can't run.
 *
 * It knows the guest's registers (struct hv_vcpu) and, through struct emulate_env, the guest's
 * memory by linear address and its ports; nothing of PGM, of machines or of vendors.
 */
#pragma once

#include "arch/x86_64/hv.h"

enum emulate_result {
	EMULATE_DONE, /* registers updated, rip behind the instruction (or at it, in the middle of a REP that yields) */
	EMULATE_FAULT,     /* vcpu->inject (and cr2) hold the exception, RF is set; no register but those was changed */
	EMULATE_UNHANDLED, /* not an instruction it knows; nothing was changed; env->bytes tell which */
	EMULATE_STOP, /* env refused with a status that is not a guest fault (machine is to stop or park); nothing changed */
};

struct decode_cache;

#define VECTOR_MAX 64u
#define VECTOR_MMX 32u

struct emulate_env {
	void *context;
	/*
	 * Linear memory, up to 64 bytes, may cross a page; linear addresses are already truncated to the mode's
	 * width. access: ACCESS_READ, ACCESS_WRITE, ACCESS_EXECUTE (fetch), or READ|WRITE for the read half of a
	 * read-modify-write. system: an access by the processor itself (descriptor tables), as supervisor.
	 * GUEST_FAULT: *fault is the exception (vcpu->cr2 is the caller's to set from *fault_address).
	 */
	enum status (*read)(void *context, gva_t where, void *to, unsigned size, unsigned access, bool system,
			    struct hv_event *fault, uint64_t *fault_address);
	enum status (*write)(void *context, gva_t where, const void *from, unsigned size, bool system,
			     struct hv_event *fault, uint64_t *fault_address);
	/*
	 * One atomic compare-and-exchange for locked instructions; *seen gets the old value. size 1, 2, 4, 8, 16.
	 * NULL, or NOT_SUPPORTED from it (MMIO): read and write are used.
	 */
	enum status (*compare_exchange)(void *context, gva_t where, const void *expected, const void *desired,
					void *seen, unsigned size, struct hv_event *fault, uint64_t *fault_address);
	/*
	 * All bytes (1 to 64) of a vector register, 0 to 31, or the 8 of an MMX register, from VECTOR_MMX on: *value is what it
	 * holds, or what it is to hold. NULL: none.
	 */
	void (*vector)(void *context, unsigned number, bool write, uint8_t value[VECTOR_MAX]);
	uint32_t (*port_in)(void *context, uint16_t port, unsigned size);
	void (*port_out)(void *context, uint16_t port, unsigned size, uint32_t value);
	/* The emulator has checked CPL, IOPL and the TSS's bitmap (by read(system)) before it touches a port. */

	/* What this vcpu has decoded lately; NULL: decode each time. */
	struct decode_cache *decoded;

	/* Filled by the emulator: the instruction as fetched, for messages. */
	uint8_t bytes[15];
	unsigned byte_count;
};

/*
 * Emulates the one instruction at cs:rip. Bytes in vcpu->exit.bytes are used if the processor gave any. A REP
 * instruction does at most 4096 iterations and then returns DONE with rip still at it.
 */
enum emulate_result emulate_instruction(struct hv_vcpu *vcpu, struct emulate_env *env);

/*
 * Decodes only as much as is needed to know its length: for stepping over CPUID, MSR, CR and other exits when the
 * processor gives no length. 0 with *result telling why (FAULT: the fetch faults, vcpu->inject is set).
 */
unsigned emulate_length(struct hv_vcpu *vcpu, struct emulate_env *env, enum emulate_result *result);

/* The trap behind an instruction that began with TF set. An event that is to be delivered already goes first. */
static inline void emulate_single_step(struct hv_vcpu *vcpu)
{
	if (vcpu->inject.kind != EVENT_NONE)
		return;
	hv_note_debug(vcpu, DR6_SINGLE_STEP);
	vcpu->inject = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = VECTOR_DB };
}

struct instruction;
/* Fetches and decodes the instruction at cs:rip for code that acts on it itself (control and debug registers). */
enum emulate_result emulate_decode(struct hv_vcpu *vcpu, struct emulate_env *env, struct instruction *instruction);
/* The 16-bit r/m operand of the instruction at cs:rip (LMSW). */
enum emulate_result emulate_read_word(struct hv_vcpu *vcpu, struct emulate_env *env, uint16_t *word);
