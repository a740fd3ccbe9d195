# SPDX-License-Identifier: MIT
"""The command ``pagestep``."""


def main() -> None:
    """Run the command."""
