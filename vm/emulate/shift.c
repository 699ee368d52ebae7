/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shifts and rotates of values, with flags. OF for counts other than 1 is undefined; here it is what the last step of
 * one bit would leave. Intel SDM vol. 2: RCL/RCR/ROL/ROR, SAL/SAR/SHL/SHR, SHLD, SHRD.
 */
#include "vm/emulate/internal.h"

static uint64_t bit(uint64_t value, unsigned number)
{
	return (value >> number) & 1;
}

static void carry_and_overflow(uint64_t *flags, uint64_t carry, uint64_t overflow)
{
	*flags = (*flags & ~(RFLAGS_CF | RFLAGS_OF)) | (carry ? RFLAGS_CF : 0) | (overflow ? RFLAGS_OF : 0);
}

static void set_result_flags(uint64_t *flags, unsigned bits, uint64_t result)
{
	*flags = (*flags & ~(RFLAGS_SF | RFLAGS_ZF | RFLAGS_PF | RFLAGS_AF)) | result_flags(bits / 8, result);
}

static uint64_t rotate(bool right, unsigned bits, uint64_t a, unsigned count, uint64_t *flags)
{
	unsigned left = (right ? bits - count % bits : count) % bits;
	uint64_t result = left ? (a << left | a >> (bits - left)) & byte_mask(bits / 8) : a;
	uint64_t carry = right ? bit(result, bits - 1) : bit(result, 0);

	carry_and_overflow(flags, carry, bit(result, bits - 1) ^ (right ? bit(result, bits - 2) : carry));
	return result;
}

static uint64_t rotate_through_carry(bool right, unsigned bits, uint64_t a, unsigned count, uint64_t *flags)
{
	uint64_t carry = *flags & RFLAGS_CF, mask = byte_mask(bits / 8);

	count %= bits + 1;
	while (count--) {
		uint64_t out = right ? bit(a, 0) : bit(a, bits - 1);

		a = right ? a >> 1 | carry << (bits - 1) : ((a << 1) & mask) | carry;
		carry = out;
	}
	carry_and_overflow(flags, carry, bit(a, bits - 1) ^ (right ? bit(a, bits - 2) : carry));
	return a;
}

static uint64_t shift_left(unsigned bits, uint64_t a, unsigned count, uint64_t *flags)
{
	uint64_t result = (a << count) & byte_mask(bits / 8);
	uint64_t carry = count <= bits ? bit(a, bits - count) : 0;

	carry_and_overflow(flags, carry, bit(result, bits - 1) ^ carry);
	set_result_flags(flags, bits, result);
	return result;
}

static uint64_t shift_right(bool arithmetic, unsigned bits, uint64_t a, unsigned count, uint64_t *flags)
{
	uint64_t wide = arithmetic ? (uint64_t)signed_value(a, bits / 8) : a;
	uint64_t before = arithmetic ? (uint64_t)((int64_t)wide >> (count - 1)) : wide >> (count - 1);
	uint64_t result = (arithmetic ? (uint64_t)((int64_t)before >> 1) : before >> 1) & byte_mask(bits / 8);

	carry_and_overflow(flags, before & 1, arithmetic ? 0 : bit(before, bits - 1));
	set_result_flags(flags, bits, result);
	return result;
}

uint64_t alu_shift(enum shift_operation operation, unsigned size, uint64_t a, unsigned count, uint64_t *flags)
{
	unsigned bits = 8 * size;

	count &= size == 8 ? 63 : 31;
	if (count == 0)
		return a;
	switch (operation) {
	case SHIFT_ROL: return rotate(false, bits, a, count, flags);
	case SHIFT_ROR: return rotate(true, bits, a, count, flags);
	case SHIFT_RCL: return rotate_through_carry(false, bits, a, count, flags);
	case SHIFT_RCR: return rotate_through_carry(true, bits, a, count, flags);
	case SHIFT_SHR: return shift_right(false, bits, a, count, flags);
	case SHIFT_SAR: return shift_right(true, bits, a, count, flags);
	case SHIFT_SHL:
	case SHIFT_SAL: break;
	}
	return shift_left(bits, a, count, flags);
}

uint64_t alu_double_shift(bool right, unsigned size, uint64_t a, uint64_t b, unsigned count, uint64_t *flags)
{
	unsigned bits = 8 * size;
	uint64_t result, carry;

	count &= size == 8 ? 63 : 31;
	if (count == 0)
		return a;
	if (count > bits) { /* 16 bits, undefined: the source comes in again */
		a = b;
		count -= bits;
	}
	if (right) {
		result = count == bits ? b : (a >> count | b << (bits - count)) & byte_mask(size);
		carry = bit(a, count - 1);
	} else {
		result = count == bits ? b : ((a << count) & byte_mask(size)) | b >> (bits - count);
		carry = bit(a, bits - count);
	}
	carry_and_overflow(flags, carry, bit(a ^ result, bits - 1));
	set_result_flags(flags, bits, result);
	return result;
}
