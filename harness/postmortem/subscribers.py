# SPDX-License-Identifier: GPL-2.0-only
"""Who subscribed to each mm's invalidations, by the functions that are called."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import drgn
from drgn.helpers.linux.list import hlist_for_each_entry
from drgn.helpers.linux.rbtree import rbtree_inorder_for_each_entry

from harness.postmortem.core import MANY, Core, title

HEADING = "Subscribers of mmu notifiers"

_CALLS = ("invalidate_range_start", "invalidate_range_end", "release", "free_notifier")


def lines(core: Core) -> Iterator[str]:
    """A paragraph for each mm that has subscribers."""
    users: dict[int, list[drgn.Object]] = {}
    for task in core.tasks:
        for mm in {task.mm.value_(), task.active_mm.value_()} - {0}:
            users.setdefault(mm, []).append(task)
    for address, tasks in users.items():
        mm = drgn.Object(core.program, "struct mm_struct *", value=address)
        subscriptions = mm.notifier_subscriptions.value_()
        if subscriptions:
            names = ", ".join(title(task) for task in tasks[:4])
            yield f"mm {address:#x} of {names}: {mm.mm_users.counter.value_()} users"
            yield from _subscriptions(core, subscriptions)


def _subscriptions(core: Core, address: int) -> Iterator[str]:
    kept = drgn.Object(core.program, "struct harness_subscriptions *", value=address)
    head = kept.list.address_of_()
    for notifier in itertools.islice(hlist_for_each_entry("struct mmu_notifier", head, "hlist"), MANY):
        calls = [(call, getattr(notifier.ops, call).value_()) for call in _CALLS if hasattr(notifier.ops, call)]
        said = ", ".join(f"{call} {_function(core, target)}" for call, target in calls if target)
        yield f"  subscriber {notifier.value_():#x}: {said}; {notifier.users.value_()} users"
    if not kept.has_itree.value_():
        return
    active = kept.active_invalidate_ranges.value_()
    yield f"  interval notifiers: {active} invalidations under way, sequence {kept.invalidate_seq.value_()}"
    root = kept.itree.rb_root.address_of_()
    entries = rbtree_inorder_for_each_entry("struct mmu_interval_notifier", root, "interval_tree.rb")
    for entry in itertools.islice(entries, MANY):
        first, last = entry.interval_tree.start.value_(), entry.interval_tree.last.value_()
        yield f"    {first:#x}-{last:#x}: invalidate {_function(core, entry.ops.invalidate.value_())}"


def _function(core: Core, address: int) -> str:
    found = core.symbols.find(address)
    return f"{found[0]} [{found[3]}]" if found and found[3] else found[0] if found else f"{address:#x}"
