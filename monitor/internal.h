/* SPDX-License-Identifier: Apache-2.0 */
/* What commands ask of the monitor's loop: done once the command's answer is out. Boot CPU only. */
#pragma once

#include "monitor/text/output.h"

#define QUIRE_VERSION "0.1"

struct machine;

enum monitor_ending { ENDING_NONE, ENDING_POWEROFF, ENDING_REBOOT };

void monitor_attach(struct machine *machine);
/* Of the answers of later commands. */
void monitor_set_mode(enum output_mode mode);
/* Stops all machines; once they are off, or after ENDING_PATIENCE, the host goes. */
void monitor_end(enum monitor_ending ending);
