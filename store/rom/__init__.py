# SPDX-License-Identifier: MIT
"""ROM images: an image's pages, coded, as one run of bytes that a target reads in place."""
