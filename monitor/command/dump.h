/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's memory as lines of text, in the order of addresses:
 *
 *   d GPA BASE64 CRC     1024 bytes from GPA on, and their CRC-32 in eight hexadecimal digits
 *   z GPA BYTES          so many zeros: pages that read as zero, pages given back, and where no memory is
 *
 * What follows the lines says how far it goes, how many bytes stood in d lines, and the CRC-32 of these in order.
 */
#pragma once

#include "monitor/text/output.h"
#include "pgm/pgm.h"

#define DUMP_LINE_BYTES 1024u
#define DUMP_LINE_TEXT (2 + 19 + (DUMP_LINE_BYTES + 2) / 3 * 4 + 10)

/* The rest goes in steps: to be called at a command's end. no_zero: without z lines. */
void dump_begin(struct output *out, struct pgm *pgm, bool no_zero);

/* A d line for DUMP_LINE_BYTES bytes. */
void dump_line(char text[DUMP_LINE_TEXT + 1], uint64_t where, const uint8_t *bytes);
/* Base64 with padding and a NUL; to has (length + 2) / 3 * 4 + 1 bytes. */
void dump_base64(char *to, const uint8_t *bytes, size_t length);
