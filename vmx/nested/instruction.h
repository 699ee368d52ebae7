/* SPDX-License-Identifier: Apache-2.0 */
/* How L1's VM instructions end, and their operands in memory: shared by instruction.c and region.c. */
#pragma once

#include "vmx/nested/nested.h"

/* An exception for L1; #UD, or one with error code 0. */
enum hv_nested_step vmx_nested_fault(struct vmx_nested *n, uint8_t vector);
/* Section 31.2: done, with this flag alone set: CF is VMfailInvalid, 0 VMsucceed. */
enum hv_nested_step vmx_nested_result(struct vmx_nested *n, uint64_t flag);
static inline enum hv_nested_step vmx_nested_succeed(struct vmx_nested *n)
{
	return vmx_nested_result(n, 0);
}
/* VMfail with this number; VMfailInvalid without a current VMCS. */
enum hv_nested_step vmx_nested_fail(struct vmx_nested *n, unsigned number);

/* By the exit's instruction information; VMCS01 is current. NESTED_DONE: *to is filled, or *from written. */
enum hv_nested_step vmx_nested_read_operand(struct vmx_nested *n, void *to, unsigned size);
enum hv_nested_step vmx_nested_write_operand(struct vmx_nested *n, const void *from, unsigned size);

/* region.c */
enum hv_nested_step vmx_nested_vmxon(struct vmx_nested *n);
enum hv_nested_step vmx_nested_vmxoff(struct vmx_nested *n);
enum hv_nested_step vmx_nested_vmclear(struct vmx_nested *n);
enum hv_nested_step vmx_nested_vmptrld(struct vmx_nested *n);
enum hv_nested_step vmx_nested_vmptrst(struct vmx_nested *n);
