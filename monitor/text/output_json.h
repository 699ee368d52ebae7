/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON string (RFC 8259) of any bytes: what is not valid UTF-8 becomes U+FFFD. No state. */
#pragma once

#include "lib/format.h"

/* The text with its quotation marks. */
void json_string(format_sink put, void *context, const char *text);
