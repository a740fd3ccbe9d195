# SPDX-License-Identifier: MIT
"""The page store: images, policy, traces."""
