# SPDX-License-Identifier: MIT
"""A ROM image in the formats that flash tools and linkers take."""

from ._output import FORMATS, OutputFormat, render

__all__ = ["FORMATS", "OutputFormat", "render"]
