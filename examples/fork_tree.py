# SPDX-License-Identifier: MIT
"""Explore all that a machine can do: its memory is forked at every step, and nothing is copied.

A simulated machine has 1 MiB of memory and reads one bit of input at each step. From every
state both inputs are tried, so there are 2, 4, 8, ... machines, each with its whole memory.

    python examples/fork_tree.py        # 9 steps: 1,023 machines
    python examples/fork_tree.py 6
"""

from __future__ import annotations

import sys
import zlib

import click

from pagestep import Anonymous, PageStepError, PageStore, show_size

PAGES = 256


def step(memory: Anonymous, bit: int) -> None:
    """Run one step: registers are on page 0; what they say decides what is written where."""
    state = zlib.crc32(memory.read(0)[:8] + bytes([bit]))
    memory.write(0, state.to_bytes(8, "little"))
    memory.write(1 + state % (PAGES - 1), f"step with {bit}: {state:#x};".encode() * 8)


def boot(store: PageStore) -> Anonymous:
    """Return the memory of a machine that has just started: half of it is its program."""
    memory = store.anonymous(PAGES)
    for page_no in range(PAGES // 2):
        memory.write(page_no, b"instruction %d; " % page_no * 200)
    return memory


def explore(steps: int) -> None:
    """Explore, and go back to one of the states."""
    with PageStore.open(ram="6MiB") as store:
        machines = {"": boot(store)}
        leaves = [""]
        for _ in range(steps):
            for path in leaves:
                for bit in "01":
                    machines[path + bit] = machines[path].fork()
                    step(machines[path + bit], int(bit))
            leaves = [path + bit for path in leaves for bit in "01"]
        stats = store.stats()
        whole = stats.page_count * store.page_size
        print(f"{len(machines)} machines of {show_size(PAGES * store.page_size)}")
        print(f"as copies they would take {show_size(whole)}")
        print(f"they take {show_size(stats.used_bytes)} of {show_size(stats.budget_bytes)}:")
        print(f"  pages of several  {show_size(stats.shared_bytes)}")
        print(f"  pages of one      {show_size(stats.private_bytes)}")

        # Any state is there to go on from; the machines before it are needed no more.
        path = min(leaves, key=lambda each: machines[each].read(0)[:8])
        found = machines.pop(path)
        for machine in machines.values():
            machine.close()
        again = boot(store)
        for bit in path:
            step(again, int(bit))
        same = all(found.read(page_no) == again.read(page_no) for page_no in range(PAGES))
        print(f"input {path} leads to the same memory again: {'yes' if same else 'no'}")
        print(f"with all others closed it takes {show_size(found.stats().private_bytes)}")


@click.command()
@click.argument("steps", type=click.IntRange(0, 16), default=9)
def main(steps: int) -> None:
    """Explore all that a machine can do in STEPS steps, 9 unless given."""
    try:
        explore(steps)
    except PageStepError as error:
        click.echo(f"fork_tree: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
