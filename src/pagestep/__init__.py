"""A compressed page store for kernel and firmware images."""
