# SPDX-License-Identifier: Apache-2.0
"""What the tools and the boot tests share: disk images, configurations, emulators."""
