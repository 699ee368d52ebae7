/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which handler executes which opcode. What has no line here is UNHANDLED: far control transfers, system instructions
 * (the vcpu code acts on their decoded fields), x87 and all vector instructions but moves.
 */
#include "vm/emulate/internal.h"

/* No LOCK; operand size as decoded, or bytes for even opcodes; with LOCK by ModRM.reg. */
#define OPERATION(name, groups, byte_form)                                                                             \
	{                                                                                                              \
		emulate_##name, groups, byte_form, 0                                                                   \
	}
#define OP(name) OPERATION(name, 0, false)
#define BYTE_OP(name) OPERATION(name, 0, true)
#define LOCK_OP(name, groups) OPERATION(name, groups, false)
#define BYTE_LOCK_OP(name, groups) OPERATION(name, groups, true)

#define ANY 0xff
#define GROUPS(low, high) BITS(high, low)

#define ALU_ROW(op, lock)                                                                                              \
	[8 * (op)... 8 * (op) + 1] = { emulate_alu_to_rm, lock, true, op },                                            \
				[8 * (op) + 2 ... 8 * (op) + 3] = { emulate_alu_to_reg, 0, true, op },                 \
				[8 * (op) + 4 ... 8 * (op) + 5] = { emulate_alu_to_accumulator, 0, true, op }

const struct operation emulate_one_byte[256] = {
	ALU_ROW(ALU_ADD, ANY),
	ALU_ROW(ALU_OR, ANY),
	ALU_ROW(ALU_ADC, ANY),
	ALU_ROW(ALU_SBB, ANY),
	ALU_ROW(ALU_AND, ANY),
	ALU_ROW(ALU_SUB, ANY),
	ALU_ROW(ALU_XOR, ANY),
	ALU_ROW(ALU_CMP, 0),
	[0x06] = OP(push_segment),
	[0x0e] = OP(push_segment),
	[0x16] = OP(push_segment),
	[0x1e] = OP(push_segment),
	[0x40 ... 0x4f] = OP(increment_reg),
	[0x50 ... 0x57] = OP(push_reg),
	[0x58 ... 0x5f] = OP(pop_reg),
	[0x60] = OP(push_all),
	[0x63] = OP(load_movsxd),
	[0x68] = OP(push_immediate),
	[0x69] = OP(multiply_immediate),
	[0x6a] = OP(push_immediate),
	[0x6b] = OP(multiply_immediate),
	[0x6c ... 0x6f] = BYTE_OP(port_string),
	[0x70 ... 0x7f] = OP(jump_if),
	[0x80 ... 0x83] = BYTE_LOCK_OP(alu_immediate, GROUPS(ALU_ADD, ALU_XOR)),
	[0x84 ... 0x85] = BYTE_OP(test_rm),
	[0x86 ... 0x87] = BYTE_LOCK_OP(exchange, ANY),
	[0x88 ... 0x89] = BYTE_OP(store),
	[0x8a ... 0x8b] = BYTE_OP(load),
	[0x8c] = OP(store_segment),
	[0x8d] = OP(load_address),
	[0x8e] = OP(load_segment),
	[0x8f] = OP(pop_rm),
	[0x90 ... 0x97] = OP(exchange_accumulator),
	[0x98] = OP(convert_accumulator),
	[0x99] = OP(convert_to_rdx),
	[0x9c] = OP(push_flags),
	[0x9d] = OP(pop_flags),
	[0x9e] = OP(store_flags),
	[0x9f] = OP(load_flags),
	[0xa0 ... 0xa1] = BYTE_OP(load),
	[0xa2 ... 0xa3] = BYTE_OP(store),
	[0xa4 ... 0xa7] = BYTE_OP(string),
	[0xa8 ... 0xa9] = BYTE_OP(test_accumulator),
	[0xaa ... 0xaf] = BYTE_OP(string),
	[0xb0 ... 0xbf] = OP(load_immediate),
	[0xc0 ... 0xc1] = BYTE_OP(shift_rm),
	[0xc2 ... 0xc3] = OP(return_near),
	[0xc6 ... 0xc7] = BYTE_OP(store_immediate),
	[0xc8] = OP(enter),
	[0xc9] = OP(leave),
	[0xd0 ... 0xd3] = BYTE_OP(shift_rm),
	[0xd7] = OP(translate),
	[0xe0 ... 0xe3] = OP(loop),
	[0xe4 ... 0xe5] = BYTE_OP(input),
	[0xe6 ... 0xe7] = BYTE_OP(output),
	[0xe8] = OP(call_relative),
	[0xe9] = OP(jump_relative),
	[0xeb] = OP(jump_relative),
	[0xec ... 0xed] = BYTE_OP(input),
	[0xee ... 0xef] = BYTE_OP(output),
	[0xf5] = OP(set_flag),
	[0xf6 ... 0xf7] = BYTE_LOCK_OP(group_f6, GROUPS(2, 3)),
	[0xf8 ... 0xfd] = OP(set_flag),
	[0xfe ... 0xff] = BYTE_LOCK_OP(group_fe, GROUPS(0, 1)),
};

const struct operation emulate_0f[256] = {
	[0x0d] = OP(no_operation),
	[0x18 ... 0x19] = OP(no_operation),
	[0x1c ... 0x1d] = OP(no_operation),
	[0x1f] = OP(no_operation),
	[0x40 ... 0x4f] = OP(move_if),
	[0x80 ... 0x8f] = OP(jump_if),
	[0x90 ... 0x9f] = OP(set_if),
	[0xa0] = OP(push_segment),
	[0xa8] = OP(push_segment),
	[0xa3] = OP(bit_reg),
	[0xab] = LOCK_OP(bit_reg, ANY),
	[0xb3] = LOCK_OP(bit_reg, ANY),
	[0xbb] = LOCK_OP(bit_reg, ANY),
	[0xa4 ... 0xa5] = OP(double_shift),
	[0xac ... 0xad] = OP(double_shift),
	[0xae] = OP(group_ae),
	[0xaf] = OP(multiply_reg),
	[0xb0 ... 0xb1] = BYTE_LOCK_OP(compare_exchange, ANY),
	[0xb6 ... 0xb7] = OP(load_extended),
	[0xb8] = OP(count_bits),
	[0xba] = LOCK_OP(bit_immediate, GROUPS(5, 7)),
	[0xbc ... 0xbd] = OP(bit_scan),
	[0xbe ... 0xbf] = OP(load_extended),
	[0xc0 ... 0xc1] = BYTE_LOCK_OP(exchange_add, ANY),
	[0xc3] = OP(store),
	[0xc7] = LOCK_OP(group_c7, GROUPS(1, 1)),
	[0xc8 ... 0xcf] = OP(byte_swap),
};

const struct operation emulate_swapped = OP(move_swapped);
const struct operation emulate_vector = OP(move_vector);
