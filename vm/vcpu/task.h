/* SPDX-License-Identifier: Apache-2.0 */
/* What a task switch's two files share: task.c (the switch) and task_segment.c (tables and descriptors). */
#pragma once

#include "vm/vcpu/vcpu.h"

#define TASK_LARGEST 0x68u
#define TASK_TABLE_LDT BIT(2) /* of a selector */

/* One code for both kinds of TSS: word is the size of a field, the rest are offsets of the first of a kind. */
struct task_format {
	uint8_t word, ip, gprs, selectors, selector_count, ldt, size;
};

struct task_switch {
	struct vcpu *vcpu;
	struct hv_vcpu *h;
	struct emulate_env env;
	enum task_source source;
	uint16_t selector;
	uint32_t external; /* bit 0 of error codes: no instruction of the program asked for it */
	struct segment tss;
	const struct task_format *format;
	bool entered;
	uint8_t image[TASK_LARGEST];
};

/*
 * Of the guest's linear memory, as the processor itself reads and writes it (write: or as the program does). GUEST_FAULT: the guest
 * has got the exception, as from all below.
 */
enum status task_read(struct task_switch *t, uint64_t where, void *to, unsigned size) must_check;
enum status task_write(struct task_switch *t, uint64_t where, const void *from, unsigned size, bool system) must_check;
/* The fault goes to the guest, by way of what is being delivered, if anything. GUEST_FAULT. */
enum status task_fault(struct task_switch *t, uint8_t vector, uint32_t error) must_check;
/* The segment that a selector names, and where its descriptor is. `vector` when it lies beyond its table. */
enum status task_read_descriptor(struct task_switch *t, uint16_t selector, uint8_t vector, struct segment *s,
				 uint64_t *at) must_check;
/* The byte of a descriptor that holds its type. */
enum status task_write_type(struct task_switch *t, uint64_t at, uint16_t attributes) must_check;
/* LDTR, and CS to GS, whose selectors stand in hv_vcpu; the new task runs with the RPL of its CS, `cpl`. */
enum status task_load_ldt(struct task_switch *t) must_check;
enum status task_load_segment(struct task_switch *t, enum segment_name name, unsigned cpl) must_check;
