/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic on values of 1, 2, 4 or 8 bytes with the flags it leaves. Pure functions. Flags that the manual calls
 * undefined get what recent processors leave, where that is simple, or stay. Intel SDM vol. 1 appendix A.
 */
#include "vm/emulate/internal.h"

static uint64_t top_bit(uint64_t value, unsigned size)
{
	return (value >> (8 * size - 1)) & 1;
}

static void set_flags(uint64_t *flags, uint64_t which, uint64_t values)
{
	*flags = (*flags & ~which) | (values & which);
}

static uint64_t flag_if(bool condition, uint64_t flag)
{
	return condition ? flag : 0;
}

/* carries: per bit, whether it carried (or borrowed) out of that bit. */
static void sum_flags(uint64_t *flags, unsigned size, uint64_t result, uint64_t carries, uint64_t overflow)
{
	set_flags(flags, ARITHMETIC_FLAGS,
		  result_flags(size, result) | flag_if(top_bit(carries, size), RFLAGS_CF) |
			  flag_if(carries & 8, RFLAGS_AF) | flag_if(top_bit(overflow, size), RFLAGS_OF));
}

static uint64_t add(unsigned size, uint64_t a, uint64_t b, uint64_t carry, uint64_t *flags)
{
	uint64_t result = (a + b + carry) & byte_mask(size);

	sum_flags(flags, size, result, (a & b) | ((a | b) & ~result), (a ^ result) & (b ^ result));
	return result;
}

static uint64_t subtract(unsigned size, uint64_t a, uint64_t b, uint64_t borrow, uint64_t *flags)
{
	uint64_t result = (a - b - borrow) & byte_mask(size);

	sum_flags(flags, size, result, (~a & b) | ((~a | b) & result), (a ^ b) & (a ^ result));
	return result;
}

static uint64_t logic(unsigned size, uint64_t result, uint64_t *flags)
{
	set_flags(flags, ARITHMETIC_FLAGS, result_flags(size, result));
	return result;
}

uint64_t alu_binary(enum alu_operation operation, unsigned size, uint64_t a, uint64_t b, uint64_t *flags)
{
	switch (operation) {
	case ALU_ADD: return add(size, a, b, 0, flags);
	case ALU_OR: return logic(size, a | b, flags);
	case ALU_ADC: return add(size, a, b, *flags & RFLAGS_CF, flags);
	case ALU_SBB: return subtract(size, a, b, *flags & RFLAGS_CF, flags);
	case ALU_AND: return logic(size, a & b, flags);
	case ALU_XOR: return logic(size, a ^ b, flags);
	case ALU_SUB:
	case ALU_CMP: break;
	}
	return subtract(size, a, b, 0, flags);
}
_Static_assert(RFLAGS_CF == 1, "adc and sbb take the carry flag as a number");

uint64_t alu_increment(bool decrement, unsigned size, uint64_t a, uint64_t *flags)
{
	uint64_t carry = *flags & RFLAGS_CF;
	uint64_t result = decrement ? subtract(size, a, 1, 0, flags) : add(size, a, 1, 0, flags);

	set_flags(flags, RFLAGS_CF, carry);
	return result;
}

bool alu_condition(unsigned condition, uint64_t flags)
{
	bool less = !(flags & RFLAGS_SF) != !(flags & RFLAGS_OF), holds;

	switch ((condition >> 1) & 7) {
	case 0: holds = flags & RFLAGS_OF; break;
	case 1: holds = flags & RFLAGS_CF; break;
	case 2: holds = flags & RFLAGS_ZF; break;
	case 3: holds = flags & (RFLAGS_CF | RFLAGS_ZF); break;
	case 4: holds = flags & RFLAGS_SF; break;
	case 5: holds = flags & RFLAGS_PF; break;
	case 6: holds = less; break;
	default: holds = less || (flags & RFLAGS_ZF); break;
	}
	return holds != (condition & 1);
}

uint64_t alu_multiply(bool is_signed, unsigned size, uint64_t a, uint64_t b, uint64_t *high, uint64_t *flags)
{
	uint64_t low;
	bool matters;

	if (size == 8) {
		unsigned __int128 product =
			is_signed ? (unsigned __int128)((__int128)(int64_t)a * (int64_t)b) : (unsigned __int128)a * b;

		low = (uint64_t)product;
		*high = (uint64_t)(product >> 64);
	} else {
		uint64_t product = is_signed ? (uint64_t)(signed_value(a, size) * signed_value(b, size)) : a * b;

		low = product & byte_mask(size);
		*high = (product >> (8 * size)) & byte_mask(size);
	}
	matters = *high != (is_signed && top_bit(low, size) ? byte_mask(size) : 0);
	set_flags(flags, RFLAGS_CF | RFLAGS_OF, flag_if(matters, RFLAGS_CF | RFLAGS_OF));
	return low;
}

/* high < divisor, so the quotient fits. The compiler would call a library function for 128 by 64 bits. */
static uint64_t divide_128(uint64_t high, uint64_t low, uint64_t divisor, uint64_t *remainder)
{
	uint64_t quotient;

	__asm__("divq %4" : "=a"(quotient), "=d"(*remainder) : "a"(low), "d"(high), "r"(divisor) : "cc");
	return quotient;
}

static bool divide_unsigned(unsigned size, uint64_t high, uint64_t low, uint64_t divisor, uint64_t *quotient,
			    uint64_t *remainder)
{
	uint64_t dividend;

	if (high >= divisor)
		return false;
	if (size == 8) {
		*quotient = divide_128(high, low, divisor, remainder);
		return true;
	}
	dividend = high << (8 * size) | low;
	*quotient = dividend / divisor;
	*remainder = dividend % divisor;
	return true;
}

bool alu_divide(bool is_signed, unsigned size, uint64_t high, uint64_t low, uint64_t divisor, uint64_t *quotient,
		uint64_t *remainder)
{
	uint64_t mask = byte_mask(size);
	bool minus_dividend = is_signed && top_bit(high, size), minus_divisor = is_signed && top_bit(divisor, size);
	bool minus = minus_dividend != minus_divisor;

	if (minus_dividend) {
		low = -low & mask;
		high = (~high + (low == 0)) & mask;
	}
	if (minus_divisor)
		divisor = -divisor & mask;
	if (!divide_unsigned(size, high, low, divisor, quotient, remainder))
		return false;
	if (!is_signed)
		return true;
	if (*quotient > (mask >> 1) + minus)
		return false;
	*quotient = (minus ? -*quotient : *quotient) & mask;
	*remainder = (minus_dividend ? -*remainder : *remainder) & mask;
	return true;
}
