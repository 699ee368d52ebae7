/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vcpu's registers can be had only where nobody runs it: on its own CPU between slices (that is here, for the
 * boot CPU's vcpus), or when its machine is paused. Otherwise what was last seen of them is shown, and
 * said to be that. Boot CPU only.
 */
#pragma once

#include <stdbool.h>

struct vcpu;
struct walk_context;

/* Fetches control registers, flags and stack pointer if they can be had now. On another CPU's vcpu, hands the backend's state back afterwards. */
bool registers_fetch(struct vcpu *vcpu);
/* "now", "last seen" */
const char *registers_seen(bool now);
/* The registers as they stand, fetched or last seen; a peek needs no rights, so no CPL and no keys. */
void registers_walk_context(const struct vcpu *vcpu, struct walk_context *context);
