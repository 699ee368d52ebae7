/* SPDX-License-Identifier: Apache-2.0 */
/* What the rest of vm/ asks of nested.c, for programs without it: no machine there runs machines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "vm/vcpu/nested.h"

#define WEAK __attribute__((weak))

WEAK void vcpu_nested_deadline(struct vcpu *vcpu)
{
	fail();
}

WEAK enum exit_action exit_nested(struct vcpu *vcpu)
{
	fail();
	return ACTION_LEAVE;
}

WEAK bool vcpu_reflect_outer(struct vcpu *vcpu)
{
	return false;
}

WEAK bool vcpu_nested_redirect(struct vcpu *vcpu, const struct hv_nested_fault *fault, gpa_t *where)
{
	fail();
	return false;
}

WEAK bool vcpu_through_outer(const struct vcpu *vcpu, gpa_t *where)
{
	fail();
	return false;
}

WEAK bool vcpu_nested_takes_event(struct vcpu *vcpu, enum hv_nested_event what)
{
	fail();
	return false;
}

WEAK void vcpu_nested_startup(struct vcpu *vcpu, uint8_t vector)
{
	fail();
}

WEAK bool vcpu_nested_takes_exception(struct vcpu *vcpu, const struct hv_event *event)
{
	fail();
	return false;
}

WEAK bool vcpu_nested_allows(struct vcpu *vcpu, uint64_t cr0, uint64_t cr4)
{
	return true;
}

WEAK uint64_t vcpu_nested_control(struct vcpu *vcpu, unsigned number, uint64_t value)
{
	return value;
}

WEAK enum status vcpu_nested_msr(struct vcpu *vcpu, uint32_t msr, bool write, uint64_t *value)
{
	return NOT_FOUND;
}

WEAK void vcpu_move_tsc(struct vcpu *vcpu, uint64_t by)
{
	vcpu->hv->tsc_offset += by;
	vcpu->hv->tsc_changed = true;
}
