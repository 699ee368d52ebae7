/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The short way for what nearly every access to a device is: MOV, MOVZX or MOVSX between a register, or an immediate,
 * and memory, in 64-bit mode or in flat 32-bit segments, with nothing special about it.
 */
#ifndef VM_EMULATE_QUICK_H
#define VM_EMULATE_QUICK_H

#include "arch/x86_64/hv.h"
#include "vm/decode_cache.h"

/* The environment, as struct emulate_env is. Any status but OK: nothing has been done that a second try would notice. */
struct quick_env {
	void *context;
	struct decode_cache *decoded;
	/* The INSTRUCTION_MAX bytes at a linear address, all in one page, with the rights of a fetch. */
	enum status (*fetch)(void *context, gva_t where, uint8_t *bytes);
	/* One access of 1, 2, 4 or 8 bytes within one page. The value has no bits above them. */
	enum status (*access)(void *context, gva_t where, unsigned size, bool write, uint64_t *value);
};

/*
 * True: the instruction at cs:rip is done, as emulate_instruction() would have done it. False: it is not such a one, or
 * something is in doubt; nothing has changed but accessed and dirty bits, and emulate_instruction() is to do it.
 */
bool emulate_quick(struct hv_vcpu *vcpu, const struct quick_env *env);

#endif
