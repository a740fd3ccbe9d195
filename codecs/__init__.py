# SPDX-License-Identifier: MIT
"""Codecs: one page in, fewer bytes out, and back."""
