# SPDX-License-Identifier: GPL-2.0-only
"""The words of a scenario file: what may stand where. What each of them means is in glossary.py."""

from __future__ import annotations

# The keys of a scenario, and of each section or entry of a section that has keys of its own.
KEYS = {
    "scenario": (
        "summary",
        "default",
        "vary",
        "shape",
        "cgroup",
        "buffers",
        "subscribers",
        "steps",
        "exercised",
        "owed",
        "never",
        "needs",
        "expect",
        "tolerate",
        "timeout",
    ),
    "shape": ("memory", "cpus", "swap", "cmdline"),
    "cgroup": ("max", "high", "swap_max"),
    "buffer": ("kind", "size", "thp"),
    "subscriber": (
        "buffer",
        "policy",
        "errno",
        "when",
        "wait_ms",
        "interface",
        "end",
        "end_ms",
        "offset",
        "accessed",
    ),
    "needs": ("options", "without", "version", "until", "contract"),
}

KINDS = ("anon", "shmem", "file", "code", "private", "hugetlb", "hugetlb-shared")
POLICIES = (
    "accept",
    "eagain-mayfail",
    "eagain-reclaim",
    "eagain-always",
    "errno",
    "wait",
    "mutex",
    "mayfail-trylock",
    "mayfail-fence",
    "block-mutex",
)
WHENS = ("mayfail", "reclaim", "always")
INTERFACES = ("register", "get", "interval", "mirror", "tlb")
# Those that mirror the page table of their buffer.
MIRRORS = frozenset({"mirror", "tlb"})
# What a subscriber answers when the kernel asks whether its device accessed a page; not all want to be asked.
ACCESSED = ("unasked", "no", "yes")
# What a mirror makes the kernel do before it takes over an entry of the page table.
ACCESSES = ("present", "read", "write", "exclusive")
REFERENCES = ("get", "pin")
PROTECTIONS = ("none", "r", "rw")
ADVICES = (
    "cold",
    "pageout",
    "dontneed",
    "free",
    "remove",
    "willneed",
    "populate-read",
    "populate-write",
    "hugepage",
    "nohugepage",
    "collapse",
    "mergeable",
    "unmergeable",
    "hwpoison",
    "soft-offline",
    "guard-install",
    "guard-remove",
    "random",
    "sequential",
    "dontfork",
    "wipeonfork",
)
# The longest wait in a callback, in milliseconds.
WAIT_MS_MAX = 10_000
ERRNOS = ("EPERM", "EINTR", "EIO", "EAGAIN", "ENOMEM", "EFAULT", "EBUSY", "EINVAL", "EDEADLK")

# What a scenario can demand or exclude; counted by oracles/exercised.py.
COUNTERS = (
    "callbacks",
    "direct_reclaim",
    "kswapd",
    "mayfail",
    "nonblockable",
    "nested",
    "eagain",
    "errno",
    "invalidates",
    "refused_invalidates",
    "waits",
    "self_waits",
    "self_held",
    "exits",
    "registers_within",
    "leaves_within",
    "lost_ends",
    "held",
    "released",
    "young_clear_flush",
    "young_clear",
    "young_test",
    "mirrored",
    "compared",
    "flushes",
    "awaited",
    "allocstall",
    "event_unmap",
    "event_clear",
    "event_protection_vma",
    "event_protection_page",
    "event_soft_dirty",
    "event_release",
    "event_migrate",
    "event_exclusive",
)

# Keys of every step: what its reply must say, the thread and the child process that do it, and whether it is repeated.
COMMON = ("expect", "background", "in", "again")

# Verbs may be limited to a part of their buffer.
_RANGE = frozenset({"offset", "size"})

# verb: what its target names, and its other keys. One line for each verb of the guest
# driver (guest-modules/drive) that a scenario may use.
VERBS: dict[str, tuple[str, frozenset[str]]] = {
    "map": ("buffer", frozenset()),
    "unmap": ("buffer", _RANGE),
    "touch": ("buffer", _RANGE | {"seed", "stride"}),
    "user-write": ("buffer", _RANGE | {"seed", "stride"}),
    "user-check": ("buffer", _RANGE | {"seed", "stride"}),
    "advise": ("buffer", _RANGE | {"advice", "stride", "each"}),
    "protect": ("buffer", _RANGE | {"prot"}),
    "replace": ("buffer", _RANGE),
    "move": ("buffer", frozenset({"shift", "apart"})),
    "lock": ("buffer", _RANGE),
    "unlock": ("buffer", _RANGE),
    "sync": ("buffer", _RANGE),
    "migrate": ("buffer", _RANGE | {"node"}),
    "write-protect": ("buffer", _RANGE),
    "write-unprotect": ("buffer", _RANGE),
    "move-pages": ("buffer", frozenset({"into"})),
    "idle": ("buffer", _RANGE),
    "idle-check": ("buffer", _RANGE),
    "scan": ("buffer", _RANGE),
    "subscribe": ("subscriber", frozenset()),
    "unsubscribe": ("subscriber", frozenset()),
    "policy": ("subscriber", frozenset({"to", "errno", "when", "wait_ms"})),
    "hold": ("subscriber", frozenset({"how"})),
    "release": ("subscriber", frozenset()),
    "device-write": ("subscriber", frozenset({"seed"})),
    "device-check": ("subscriber", frozenset({"seed"})),
    "device-move": ("subscriber", frozenset()),
    "pages": ("name", frozenset()),
    "same": ("subscriber", frozenset()),
    "stats": ("subscriber", frozenset()),
    "until": ("subscriber", frozenset({"counter", "min"})),
    "read-begin": ("subscriber", frozenset({"limit_ms", "locked"})),
    "fence": ("subscriber", frozenset({"state"})),
    "build": ("subscriber", frozenset({"how", "alloc", "together"})),
    "mirror": ("subscriber", frozenset({"access"})),
    "compare": ("subscriber", frozenset()),
    "pressure": ("pressure", frozenset()),
    "cgroup": ("new", frozenset({"max", "high", "swap_max"})),
    "limit": ("key", frozenset({"value"})),
    "cgroup-stat": ("cgroup", frozenset()),
    "write": ("path", frozenset({"value"})),
    "await": ("path", frozenset({"key", "min"})),
    "fork": ("new", frozenset()),
    "end": ("process", frozenset()),
    "kill": ("process", frozenset()),
    "mrelease": ("process", frozenset()),
    "wait": ("thread", frozenset()),
    "asleep": ("thread", frozenset()),
    "interrupt": ("thread", frozenset({"noticed"})),
    "insmod": ("module", frozenset()),
    "selftest": ("program", frozenset({"policy", "args", "errno", "when", "wait_ms", "interface", "end"})),
}

# verb: the keys without which it says nothing.
REQUIRED: dict[str, frozenset[str]] = {
    "advise": frozenset({"advice"}),
    "fence": frozenset({"state"}),
    "limit": frozenset({"value"}),
    "migrate": frozenset({"node"}),
    "move-pages": frozenset({"into"}),
    "policy": frozenset({"to"}),
    "protect": frozenset({"prot"}),
    "selftest": frozenset({"policy"}),
    "until": frozenset({"counter"}),
    "write": frozenset({"value"}),
}

# Keys whose value is one of a set of words, and what such a word is called.
CHOICES = {
    "to": (POLICIES, "policy"),
    "policy": (POLICIES, "policy"),
    "how": (REFERENCES, "kind of reference"),
    "access": (ACCESSES, "access"),
    "advice": (ADVICES, "advice"),
    "prot": (PROTECTIONS, "protection"),
    "errno": (ERRNOS, "errno"),
    "when": (WHENS, "time to fail"),
}

# The invariants that a scenario may expect to be broken; the files of oracles/.
ORACLES = (
    "clean-log",
    "coherence",
    "end-state",
    "exercised",
    "integrity",
    "latency",
    "lifetimes",
    "mayfail-gate",
    "never",
    "no-hang",
    "owed",
    "pairing",
    "ranges",
    "references",
    "selftests",
    "young",
)

_FAULTS = frozenset({"minflt", "majflt"})
# What the page table tells of a buffer; of a subscriber's pages, struct page tells more.
PAGEMAP = frozenset({"pages", "present", "swapped", "empty", "soft_dirty"})
_STRUCT_PAGE = frozenset(
    {"held", "mapped", "swapcache", "dirty", "writeback", "pinned", "lru", "active", "buddy", "refs_min", "refs_max"}
)
_STATUS = frozenset({"status", "signal"})

# verb: the numbers in its reply, of which a step may expect values. A verb that is missing here replies nothing.
REPLIES: dict[str, frozenset[str]] = {
    "map": frozenset({"addr", "pages"}),
    "unmap": frozenset({"pages"}),
    "touch": _FAULTS | {"pages"},
    "user-write": _FAULTS | {"pages"},
    "user-check": _FAULTS | {"pages", "bad"},
    "advise": frozenset({"busy"}),
    "move": frozenset({"addr"}),
    "migrate": frozenset({"pages", "moved"}),
    "move-pages": frozenset({"pages"}),
    "idle": frozenset({"pages", "idle"}),
    "idle-check": frozenset({"pages", "idle"}),
    "scan": frozenset({"pages"}),
    "subscribe": frozenset({"subscriber", "interrupted"}),
    "hold": frozenset({"pages"}),
    "release": frozenset({"pages"}),
    "device-write": frozenset({"pages"}),
    "device-check": frozenset({"pages", "bad"}),
    "device-move": frozenset({"pages"}),
    "pages": PAGEMAP | _STRUCT_PAGE,
    "same": frozenset({"same", "differ", "absent"}),
    "stats": frozenset({"starts", "ends", "own", "mayfail", "direct", "refused", "waits", "timeouts", "mm_refs"}),
    "until": frozenset({"value"}),
    "read-begin": frozenset({"result", "sequence", "retry"}),
    "build": frozenset({"pages", "allocated", "failed", "callbacks", "timeouts", "result"}),
    "mirror": frozenset({"pages", "writable", "stale", "busy"}),
    "compare": frozenset({"held", "stale", "busy"}),
    "cgroup-stat": frozenset(
        {
            "current",
            "swap_current",
            "anon",
            "file",
            "shmem",
            "kernel",
            "swapcached",
            "pgscan",
            "pgsteal",
            "pgscan_direct",
            "pgsteal_direct",
            "pgscan_kswapd",
            "pgmajfault",
        }
    ),
    "await": frozenset({"value"}),
    "fork": frozenset({"pid"}),
    "end": _STATUS,
    "kill": _STATUS,
    "mrelease": _STATUS | {"result"},
    "asleep": frozenset({"uninterruptible"}),
    # The last are what the host counts in its output (model/ktap.py).
    "selftest": _STATUS | {"processes", "unwatched", "pass", "fail", "skip"},
}
# The same for each pressure: the reply to the last of its commands.
PRESSED: dict[str, frozenset[str]] = {
    "global-direct": frozenset({"allocated", "failed", "allocstall", "callbacks"}),
    "kswapd": frozenset({"pages"}),
    "memcg-charge": _FAULTS | {"pages"},
    "memory-high": frozenset(),
    "memory-reclaim": frozenset({"short"}),
    "pageout": frozenset(),
}
# In every reply; and in that of a thread, which may be interrupted and may repeat its step.
REPLIED = frozenset({"ms", "signals"})
TIMES = "times"
# Those that are true or false.
TRUTHS = frozenset({"uninterruptible", "short"})
