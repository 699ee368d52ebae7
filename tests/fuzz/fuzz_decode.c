/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/emulate/*.c
/*
 * libFuzzer target: any bytes, in any mode, with any registers and segments. The input is registers, then code. Checked:
 * no access out of bounds (sanitizers), no transfer beyond 64 bytes, bounded work, and that a fault changes nothing but
 * inject and cr2, repeated instructions apart.
 *
 * clang -g -O1 -I. -fsanitize=fuzzer,address,undefined tests/fuzz/fuzz_decode.c SOURCES -o build/fuzz_decode
 */
#include <stdlib.h>
#include <string.h>

#include "arch/x86_64/registers.h"
#include "vm/emulate/decode.h"
#include "vm/emulate/emulate.h"

const struct hv_ops *hv;

struct input {
	uint64_t gpr[GPR_COUNT];
	uint64_t rflags, rip;
	uint8_t mode, cpl, memory_kind, exit_bytes;
	struct segment segment[SEG_COUNT];
};

static uint8_t memory[4096];
static unsigned calls;
static uint8_t memory_kind;

static void expect(bool condition)
{
	if (!condition)
		abort();
}

/* Linear memory is the same 4 KiB everywhere; memory_kind has bits for what faults. */
static enum status access_memory(uint64_t where, unsigned size, unsigned access, struct hv_event *fault,
				 uint64_t *fault_address)
{
	expect(size >= 1 && size <= 64);
	expect(++calls < 4 * 4096 + 64);
	if ((memory_kind & access) && (where >> 12 & 1)) {
		*fault = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = VECTOR_PF, .has_error_code = true };
		*fault_address = where;
		return GUEST_FAULT;
	}
	return memory_kind & 0x80 && access != ACCESS_EXECUTE ? HANDLER : OK;
}

static enum status read_memory(void *context, gva_t where, void *to, unsigned size, unsigned access, bool system,
			       struct hv_event *fault, uint64_t *fault_address)
{
	enum status status = access_memory(where.v, size, access, fault, fault_address);

	for (unsigned n = 0; status == OK && n < size; n++)
		((uint8_t *)to)[n] = memory[(where.v + n) % sizeof(memory)];
	return status;
}

static enum status write_memory(void *context, gva_t where, const void *from, unsigned size, bool system,
				struct hv_event *fault, uint64_t *fault_address)
{
	enum status status = access_memory(where.v, size, ACCESS_WRITE, fault, fault_address);

	for (unsigned n = 0; status == OK && n < size; n++)
		memory[(where.v + n) % sizeof(memory)] = ((const uint8_t *)from)[n];
	return status;
}

static uint32_t port_in(void *context, uint16_t port, unsigned size)
{
	expect(size == 1 || size == 2 || size == 4);
	return port * 0x01010101u;
}

static void port_out(void *context, uint16_t port, unsigned size, uint32_t value)
{
	expect(size == 1 || size == 2 || size == 4);
}

static void set_mode(struct hv_vcpu *vcpu, uint8_t mode)
{
	struct segment *code = &vcpu->segment[SEG_CS];

	vcpu->cr0 = (mode & 7) ? CR0_PE | (mode & 0x40 ? CR0_AM : 0) : 0;
	vcpu->cr4 = mode & 0x80 ? CR4_LA57 : 0;
	code->attributes &= ~(SEG_ATTR_L | SEG_ATTR_DB);
	vcpu->rflags &= ~RFLAGS_VM;
	switch (mode & 7) {
	case 1: vcpu->rflags |= RFLAGS_VM; break;
	case 2: code->attributes |= SEG_ATTR_DB; break;
	case 4:
		vcpu->efer = EFER_LMA;
		code->attributes |= SEG_ATTR_DB;
		break;
	case 5:
	case 6:
	case 7:
		vcpu->efer = EFER_LMA;
		code->attributes |= SEG_ATTR_L;
		break;
	}
}

static void check_decoder(const uint8_t *bytes, size_t size, unsigned mode)
{
	struct instruction i;
	unsigned count = size < INSTRUCTION_MAX ? (unsigned)size : INSTRUCTION_MAX;
	enum status status;

	if (!count)
		return;
	status = decode(bytes, count, mode & 3, &i);
	expect(status != OK || (i.length >= 1 && i.length <= count));
	expect(status != LIMIT || count == INSTRUCTION_MAX);
	expect(status == OK || status == LIMIT || status == BAD_FORMAT ||
	       (status == TRUNCATED && count < INSTRUCTION_MAX));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in;
	struct hv_vcpu vcpu, old;
	struct emulate_env env = {
		.read = read_memory, .write = write_memory, .port_in = port_in, .port_out = port_out
	};
	enum emulate_result result;

	if (size < sizeof(in) + 1)
		return 0;
	memcpy(&in, data, sizeof(in));
	data += sizeof(in);
	size -= sizeof(in);
	check_decoder(data, size, in.mode);
	memset(&vcpu, 0, sizeof(vcpu));
	memcpy(vcpu.gpr, in.gpr, sizeof(vcpu.gpr));
	memcpy(vcpu.segment, in.segment, sizeof(vcpu.segment));
	vcpu.rflags = in.rflags;
	vcpu.rip = in.rip;
	vcpu.valid = REGS_ALL;
	set_mode(&vcpu, in.mode);
	if (in.exit_bytes & 1) {
		vcpu.exit.byte_count = size < 15 ? (uint8_t)size : 15;
		memcpy(vcpu.exit.bytes, data, vcpu.exit.byte_count);
	}
	memory_kind = in.memory_kind;
	for (size_t n = 0; n < sizeof(memory); n++)
		memory[(vcpu.segment[SEG_CS].base * ((in.mode & 7) < 5) + in.rip + n) % sizeof(memory)] =
			data[n % size];
	calls = 0;
	old = vcpu;
	result = emulate_instruction(&vcpu, &env);
	expect(result <= EMULATE_STOP);
	if (result == EMULATE_DONE)
		return 0;
	expect(vcpu.rip == old.rip && vcpu.rflags == old.rflags);
	for (unsigned n = 0; n < env.byte_count; n++)
		if (env.bytes[n] == 0xf2 || env.bytes[n] == 0xf3)
			return 0;
	expect(memcmp(vcpu.gpr, old.gpr, sizeof(vcpu.gpr)) == 0);
	expect(memcmp(vcpu.segment, old.segment, sizeof(vcpu.segment)) == 0);
	return 0;
}
