# SPDX-License-Identifier: GPL-2.0-only
"""How much memory there was: zones against their watermarks, swap, and each memory cgroup against its limits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import drgn
from drgn.helpers.linux.cgroup import css_for_each_descendant_pre

from harness.postmortem.core import MANY, Core

_WATERMARKS = ("min", "low", "high")
_EVENTS = ("MEMCG_LOW", "MEMCG_HIGH", "MEMCG_MAX", "MEMCG_OOM", "MEMCG_OOM_KILL")
_LRUS = ("INACTIVE_ANON", "ACTIVE_ANON", "INACTIVE_FILE", "ACTIVE_FILE", "UNEVICTABLE", "ISOLATED_ANON")
_PAGE_KIB = 4
# PAGE_COUNTER_MAX, include/linux/page_counter.h: LONG_MAX / PAGE_SIZE.
_UNLIMITED = (2**63 - 1) // 4096


def zones(core: Core) -> Iterator[str]:
    """Free pages of each zone that has any, its watermarks, and the node's LRU lists."""
    free = core.program.constant("NR_FREE_PAGES")
    for node in _nodes(core):
        for zone in node.node_zones:
            managed = zone.managed_pages.counter.value_()
            if not managed:
                continue
            marks = ", ".join(f"{name} {_kib(zone._watermark[n].value_())}" for n, name in enumerate(_WATERMARKS))
            amount = zone.vm_stat[free].counter.value_()
            below = next((name for n, name in enumerate(_WATERMARKS) if amount < zone._watermark[n].value_()), "")
            name = zone.name.string_().decode("ascii", "backslashreplace")
            yield (
                f"node {node.node_id.value_()} zone {name}: free {_kib(amount)} of {_kib(managed)} "
                f"({marks})" + (f": below {below}" if below else "")
            )
        counts = ((name, node.vm_stat[core.program.constant(f"NR_{name}")].counter.value_()) for name in _LRUS)
        yield f"node {node.node_id.value_()}: " + ", ".join(f"{n.lower()} {_kib(c)}" for n, c in counts if c > 0)


def swap(core: Core) -> Iterator[str]:
    """Swap space."""
    total = core.program["total_swap_pages"].value_()
    free = core.program["nr_swap_pages"].counter.value_()
    yield f"swap: {_kib(free)} free of {_kib(total)}"


def cgroups(core: Core) -> Iterator[str]:
    """Each memory cgroup: usage, limit, events."""
    root = core.program["root_mem_cgroup"]
    for css in itertools.islice(css_for_each_descendant_pre(root.css.address_of_()), MANY):
        group = drgn.container_of(css, "struct mem_cgroup", "css")
        parts = [f"memory {_counter(group.memory)}", f"swap {_counter(group.swap)}"]
        for name in _EVENTS:
            count = group.memory_events[core.program.constant(name)].counter.value_()
            if count:
                parts.append(f"{name.removeprefix('MEMCG_').lower()} {count}")
        yield f"{_path(css.cgroup.kn)}: {', '.join(parts)}"


def _path(node: drgn.Object) -> str:
    """A cgroup's path. drgn 0.3.0 needs struct kernfs_root for it, which only fs/kernfs knows."""
    # Linux commit 633488947ef6 ("kernfs: Use RCU to access kernfs_node::parent.") (in v6.15) renamed it.
    up = "__parent" if hasattr(node, "__parent") else "parent"
    names: list[str] = []
    while node and node.member_(up) and len(names) < MANY:
        names.insert(0, node.name.string_().decode("utf-8", "backslashreplace"))
        node = node.member_(up)
    return "/" + "/".join(names)


def _nodes(core: Core) -> Iterator[drgn.Object]:
    try:
        yield core.program["contig_page_data"]
    except KeyError:
        for node in core.program["node_data"]:
            if node:
                yield node[0]


def _counter(counter: drgn.Object) -> str:
    limit = counter.max.value_()
    return f"{_kib(counter.usage.counter.value_())}" + (f" (max {_kib(limit)})" if limit < _UNLIMITED else "")


def _kib(pages: int) -> str:
    return f"{pages * _PAGE_KIB} KiB"
