/* SPDX-License-Identifier: Apache-2.0 */
/* pgmassertcr3: all that a guest's tables lead to, held against records and second-level tables. Boot CPU only. */
#pragma once

struct vcpu;
struct output;

/* To be called by the command at its end: the rest goes in steps. */
void assert_begin(struct output *out, struct vcpu *vcpu);
