#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
echo "ready.sh: in the guest's guest"
poweroff -f
