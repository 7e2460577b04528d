# SPDX-License-Identifier: GPL-2.0-only
"""A scenario: buffers, subscribers, the steps that drive them, and what must have happened."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.model import forms, needs, strict_yaml
from harness.model.errors import UsageError
from harness.model.needs import Needs
from harness.model.shape import MachineShape
from harness.model.strict_yaml import offer
from harness.model.vocabulary import (
    ACCESSED,
    CHOICES,
    COMMON,
    COUNTERS,
    ERRNOS,
    INTERFACES,
    KEYS,
    KINDS,
    MIRRORS,
    ORACLES,
    PAGEMAP,
    POLICIES,
    PRESSED,
    REPLIED,
    REPLIES,
    REQUIRED,
    TIMES,
    TRUTHS,
    VERBS,
    WAIT_MS_MAX,
    WHENS,
)


@dataclass(frozen=True)
class Buffer:
    """User memory that subscribers watch and that pressure is to reclaim."""

    name: str
    kind: str
    size_bytes: int
    thp: bool = False


@dataclass(frozen=True)
class Subscriber:
    """An mmu notifier on the driver's mm, with references on a buffer and a policy for invalidate_range_start.

    offset: in bytes; what is before that in the buffer is not the subscriber's.
    accessed: what it answers when the kernel asks whether its device accessed a page.
    end_ms: for how long its ends wait for a mirror that takes the page table over, in ms; 0: not at all.
    """

    name: str
    buffer: str
    policy: str
    errno: str = ""
    when: str = ""
    wait_ms: int = 0
    interface: str = "register"
    end: bool = True
    end_ms: int = 0
    offset: int = 0
    accessed: str = "unasked"


@dataclass(frozen=True)
class Step:
    """One verb with its target, its arguments, and what the reply must say.

    background: the thread that does it, empty for the driver's own. process: the
    child process, empty for the driver. again: the thread repeats the step until a
    later step waits for it.
    """

    verb: str
    target: str
    arguments: Mapping[str, Any]
    expect: Mapping[str, Any]
    where: str
    background: str = ""
    process: str = ""
    again: bool = False


@dataclass(frozen=True)
class Expected:
    """A finding that this scenario exists to provoke: its oracle must speak, in these words.

    pattern: a regular expression of RE2, whose matcher takes time in proportion to
    the text: the file may be anybody's, and the text is the guest's.
    """

    oracle: str
    pattern: str

    def met_by(self, oracle: str, summary: str) -> bool:
        """Whether a finding is the expected one."""
        if oracle != self.oracle:
            return False
        # RE2 takes UTF-8, in which a surrogate has no place.
        return self.compiled.search(summary.encode("utf-8", "backslashreplace")) is not None

    @cached_property
    def compiled(self) -> Any:
        """The expression. Raises ValueError for one that is none."""
        import re2

        options = re2.Options()
        options.log_errors = False
        try:
            return re2.compile(self.pattern.encode(), options)
        except re2.error as error:
            raise ValueError(error.args[0].decode("utf-8", "replace")) from None


@dataclass(frozen=True)
class Scenario:
    """One file of scenarios/, checked."""

    name: str
    path: Path
    summary: str
    default: bool
    shape: MachineShape
    cgroup: Mapping[str, int]
    buffers: Mapping[str, Buffer]
    subscribers: Mapping[str, Subscriber]
    steps: Sequence[Step]
    exercised: Mapping[str, int]
    owed: Mapping[str, int] = field(default_factory=dict)
    never: Sequence[str] = ()
    needs: Needs = field(default_factory=Needs)
    expected: Sequence[Expected] = field(default_factory=tuple)
    # Findings that may come or stay away: kernels differ there, and each is right.
    tolerated: Sequence[Expected] = field(default_factory=tuple)
    timeout_s: float = 10.0
    # What the file holds.
    text: str = field(default="", repr=False, compare=False)

    @property
    def policies(self) -> frozenset[str]:
        """The policies that its subscribers have at any time."""
        later = (step.arguments.get("policy" if step.verb == "selftest" else "to", "") for step in self.steps)
        return frozenset(
            {one.policy for one in self.subscribers.values()} | {word for word in later if word in POLICIES}
        )

    @property
    def needed(self) -> Sequence[str]:
        """The options that it needs, those too that go without saying with our own configurations."""
        implied = {
            "MEMCG": bool(self.cgroup),
            "EXT2_FS": any(buffer.kind == "file" for buffer in self.buffers.values()),
            "BLK_DEV_RAM": any(buffer.kind == "file" for buffer in self.buffers.values()),
            "HUGETLBFS": any(buffer.kind.startswith("hugetlb") for buffer in self.buffers.values()),
            "TRANSPARENT_HUGEPAGE": any(buffer.thp for buffer in self.buffers.values()),
            "DEVICE_PRIVATE": any(step.arguments.get("access") == "exclusive" for step in self.steps),
            "DEVICE_MIGRATION": any(step.verb == "device-move" for step in self.steps),
        }
        return tuple(dict.fromkeys((*self.needs.options, *(name for name, there in implied.items() if there))))

    @property
    def selftests(self) -> Sequence[str]:
        """Programs of the kernel's selftests that its steps run."""
        return tuple(dict.fromkeys(step.target for step in self.steps if step.verb == "selftest"))

    @property
    def modules(self) -> Sequence[str]:
        """The kernel's own modules that its steps load, such as lib/test_hmm."""
        return tuple(dict.fromkeys(step.target for step in self.steps if step.verb == "insmod"))


def size(value: Any, where: str) -> int:
    """A number of bytes: 4096, 64K, 16M, 1G."""
    match = forms.SIZE.fullmatch(str(value)) if isinstance(value, int | str) else None
    if match is None:
        raise UsageError(f"{where}: {value!r} is not a size", "write 64K, 16M or 1G")
    number = int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]
    if number > forms.SIZE_MAX:
        raise UsageError(f"{where}: {value!r} is more than {forms.SIZE_MAX >> 30}G")
    return number


def load(path: Path, pressures: Mapping[str, Mapping[str, bool]], text: str | None = None) -> list[Scenario]:
    """Read and check a file: one scenario, or one for each entry of its `vary`.

    pressures: the name of each known pressure, its keys, and whether it needs them.
    text: what the file holds, when it is not to be read.
    """
    if not forms.NAME.fullmatch(path.stem):
        raise UsageError(f"{path}: a scenario's file name must be lower-case words joined by '-'")
    text = strict_yaml.read(path) if text is None else text
    top = strict_yaml.parse(text, str(path))
    top.only(KEYS["scenario"], "a scenario")
    variants = _section(top, "vary")
    if not variants:
        return [_scenario(path.stem, path, text, top, pressures)]
    if len(variants) > forms.VARIANTS_MAX:
        raise UsageError(f"{top.at('vary')}: {len(variants)} scenarios in a file, more than {forms.VARIANTS_MAX}")
    chosen = _chosen(top, variants)
    # Nobody's values have the names of others: a copy of them for each variant took a fifth of the time.
    del top["vary"]
    where = top.at("vary")
    scenarios = []
    for word, values in variants.items():
        if not forms.NAME.fullmatch(word) or not isinstance(values, dict):
            raise UsageError(f"{where}: vary maps a word to the values of its $names, and {word!r} does not")
        replaced = _substitute(top, {f"${name}": value for name, value in values.items()}, where)
        assert isinstance(replaced, strict_yaml.Mapping)
        if chosen is not None:
            replaced["default"] = word in chosen
        scenarios.append(_scenario(f"{path.stem}-{word}", path, text, replaced, pressures))
    return scenarios


def _chosen(top: strict_yaml.Mapping, variants: Collection[str]) -> Collection[str] | None:
    """The variants that `default` lists; None when it is no list, and says the same of all of them."""
    listed = top.get("default")
    if not isinstance(listed, list):
        return None
    return [_word(word, variants, top.at("default"), "variant") for word in listed]


def _substitute(value: Any, values: Mapping[str, Any], where: str) -> Any:
    """`value` with each scalar that is a $name replaced; a list that replaces an entry of a list is spliced in."""
    if isinstance(value, strict_yaml.Mapping):
        copy = strict_yaml.Mapping((key, _substitute(entry, values, value.at(key))) for key, entry in value.items())
        copy.where, copy.lines = value.where, value.lines
        return copy
    if isinstance(value, list):
        parts = [(entry, _substitute(entry, values, where)) for entry in value]
        return [
            one
            for entry, new in parts
            for one in (new if isinstance(new, list) and not isinstance(entry, list) else [new])
        ]
    if isinstance(value, str) and value.startswith("$"):
        if value not in values:
            raise UsageError(f"{where}: {value!r} has no value in vary", offer(value, values))
        return values[value]
    return value


def _scenario(
    name: str, path: Path, text: str, top: strict_yaml.Mapping, pressures: Mapping[str, Mapping[str, bool]]
) -> Scenario:
    summary = top.need("summary", "a scenario")
    if not isinstance(summary, str):
        raise UsageError(f"{top.at('summary')}: summary must be text")
    buffers = {name: _buffer(name, entry, top) for name, entry in _section(top, "buffers").items()}
    subscribers = {name: _subscriber(name, entry, top, buffers) for name, entry in _section(top, "subscribers").items()}
    entries = _list(top, "steps")
    names = {
        "buffer": set(buffers),
        "subscriber": set(subscribers),
        "name": {*buffers, *subscribers},
        "pressure": set(pressures),
        "cgroup": {"work"},
        "process": {str(entry["fork"]) for entry in entries if isinstance(entry, dict) and "fork" in entry},
        "thread": {str(entry["background"]) for entry in entries if isinstance(entry, dict) and "background" in entry},
    }
    if not 1 <= len(entries) <= forms.STEPS_MAX:
        raise UsageError(f"{top.at('steps')}: a scenario has 1 to {forms.STEPS_MAX} steps, and this one {len(entries)}")
    steps = [_step(entry, top, names, pressures) for entry in entries]
    _expectations(steps, entries, buffers)
    _mirrors(steps, subscribers, buffers)
    exercised, owed = _counters(top, "exercised"), _counters(top, "owed")
    if not exercised:
        raise UsageError(
            f"{top.at()}: a scenario must say what it exercises",
            "add 'exercised: {callbacks: 4096}'; a pass without evidence proves nothing",
        )
    return Scenario(
        name=name,
        path=path,
        summary=" ".join(summary.split()),
        default=_flag(top, "default", True),
        shape=_shape(top),
        cgroup={key: size(value, top.at("cgroup")) for key, value in _cgroup(top).items()},
        buffers=buffers,
        subscribers=subscribers,
        steps=tuple(steps),
        exercised=exercised,
        owed=owed,
        never=tuple(_word(name, COUNTERS, top.at("never"), "counter") for name in _list(top, "never")),
        needs=needs.read(top),
        expected=_findings(top, "expect"),
        tolerated=_findings(top, "tolerate"),
        timeout_s=_number(top.get("timeout", 10), 1, forms.TIMEOUT_MAX_S, f"{top.at('timeout')}: timeout"),
        text=text,
    )


def _counters(top: strict_yaml.Mapping, key: str) -> dict[str, int]:
    section = _section(top, key)
    if isinstance(section, strict_yaml.Mapping):
        section.only(COUNTERS, key)
    return {name: _number(least, 1, forms.COUNT_MAX, f"{top.at(key)}: {key} {name}") for name, least in section.items()}


def _findings(top: strict_yaml.Mapping, key: str) -> Sequence[Expected]:
    return tuple(_expected(top.at(key), oracle, words) for oracle, words in _section(top, key).items())


def _expected(where: str, oracle: str, pattern: Any) -> Expected:
    _word(oracle, ORACLES, where, "oracle")
    if not isinstance(pattern, str) or not 1 <= len(pattern) <= forms.PATTERN_MAX:
        raise UsageError(f"{where}: what {oracle} is to find must be a text of 1 to {forms.PATTERN_MAX} characters")
    expected = Expected(oracle, pattern)
    try:
        _ = expected.compiled
    except ValueError as error:
        raise UsageError(
            f"{where}: {pattern!r} is not a regular expression: {error}", "github.com/google/re2/wiki/Syntax"
        ) from None
    return expected


def _section(top: strict_yaml.Mapping, key: str) -> Mapping[str, Any]:
    value = top.get(key, {})
    if not isinstance(value, dict):
        raise UsageError(f"{top.at(key)}: {key} must be a mapping")
    return value


def _list(top: strict_yaml.Mapping, key: str) -> Sequence[Any]:
    value = top.get(key, [])
    if not isinstance(value, list):
        raise UsageError(f"{top.at(key)}: {key} must be a list")
    return value


def _flag(mapping: strict_yaml.Mapping, key: str, default: bool) -> bool:
    value = mapping.get(key, default)
    if not isinstance(value, bool):
        raise UsageError(f"{mapping.at(key)}: {key} is {value!r}, not true or false")
    return value


def _number(value: Any, least: int, most: int, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UsageError(f"{where} is {value!r}, not a whole number from {least} to {most}")
    return value


def _word(value: Any, allowed: Collection[str], where: str, what: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise UsageError(f"{where}: unknown {what} {value!r}", offer(str(value), allowed))
    return value


def _shape(top: strict_yaml.Mapping) -> MachineShape:
    entry = _section(top, "shape")
    default = MachineShape()
    if not isinstance(entry, strict_yaml.Mapping):
        return default
    entry.only(KEYS["shape"], "shape")
    memory = size(entry.get("memory", default.memory_mib << 20), entry.at("memory"))
    if memory < forms.MEMORY_MIN:
        raise UsageError(
            f"{entry.at('memory')}: {memory} bytes of memory, and a guest needs {forms.MEMORY_MIN >> 20}M to boot"
        )
    cmdline = entry.get("cmdline", "")
    if not isinstance(cmdline, str):
        raise UsageError(f"{entry.at('cmdline')}: cmdline must be text")
    return MachineShape(
        memory_mib=memory >> 20,
        cpus=_number(entry.get("cpus", default.cpus), 1, forms.CPUS_MAX, f"{entry.at('cpus')}: cpus"),
        swap_mib=size(entry["swap"], entry.at("swap")) >> 20 if "swap" in entry else default.swap_mib,
        cmdline=tuple(cmdline.split()),
    )


def shape(words: Mapping[str, Any]) -> MachineShape:
    """The machine that the words of a scenario's `shape` ask for. Raises UsageError."""
    top = strict_yaml.parse(strict_yaml.dump({"shape": dict(words)}), "shape")
    try:
        return _shape(top)
    except UsageError as error:
        # There is no file whose line could be named.
        raise UsageError(re.sub(r"^shape:\d+: ", "", error.message), error.hint) from None


def _cgroup(top: strict_yaml.Mapping) -> Mapping[str, Any]:
    entry = _section(top, "cgroup")
    if isinstance(entry, strict_yaml.Mapping):
        entry.only(KEYS["cgroup"], "cgroup")
    return entry


def _buffer(name: str, entry: Any, top: strict_yaml.Mapping) -> Buffer:
    mapping = _entry(name, entry, top, "buffers")
    mapping.only(KEYS["buffer"], f"buffer {name!r}")
    kind = _word(mapping.get("kind", "anon"), KINDS, mapping.at("kind"), "kind of memory")
    bytes_ = size(mapping.need("size", f"buffer {name!r}"), mapping.at("size"))
    if bytes_ % forms.PAGE or not bytes_:
        raise UsageError(f"{mapping.at('size')}: {bytes_} bytes are not whole pages of 4096")
    if kind.startswith("hugetlb") and bytes_ % forms.HUGE_PAGE:
        raise UsageError(f"{mapping.at('size')}: {bytes_} bytes are not whole huge pages of {forms.HUGE_PAGE >> 20}M")
    return Buffer(name, kind, bytes_, _flag(mapping, "thp", False))


def _subscriber(name: str, entry: Any, top: strict_yaml.Mapping, buffers: Mapping[str, Buffer]) -> Subscriber:
    mapping = _entry(name, entry, top, "subscribers")
    mapping.only(KEYS["subscriber"], f"subscriber {name!r}")
    buffer = _word(mapping.need("buffer", f"subscriber {name!r}"), buffers, mapping.at("buffer"), "buffer")
    offset = size(mapping.get("offset", 0), mapping.at("offset"))
    if offset % forms.PAGE or offset >= buffers[buffer].size_bytes:
        raise UsageError(
            f"{mapping.at('offset')}: offset {offset} is not in whole pages of 4096 bytes, "
            f"or not below the {buffers[buffer].size_bytes} bytes of buffer {buffer!r}"
        )
    interface = _word(mapping.get("interface", "register"), INTERFACES, mapping.at("interface"), "interface")
    policy = _word(mapping.get("policy", "accept"), POLICIES, mapping.at("policy"), "policy")
    if interface in MIRRORS and policy != "accept":
        raise UsageError(
            f"{mapping.at('policy')}: mirror {name!r} has the policy {policy!r}; the kernel unmaps pages whatever an "
            "interval answers, and what the mirror kept would be blamed on the kernel",
            "a mirror accepts; another subscriber of the same buffer can refuse",
        )
    accessed = _word(mapping.get("accessed", "unasked"), ACCESSED, mapping.at("accessed"), "answer")
    if accessed != "unasked" and interface in ("interval", *MIRRORS):
        raise UsageError(
            f"{mapping.at('accessed')}: {name!r} is an interval, which is not asked what it accessed",
            "use interface: register or get",
        )
    end = _flag(mapping, "end", True)
    end_ms = _number(mapping.get("end_ms", 0), 0, WAIT_MS_MAX, f"{mapping.at('end_ms')}: end_ms")
    if end_ms and (interface in ("interval", *MIRRORS) or not end):
        raise UsageError(
            f"{mapping.at('end_ms')}: {name!r} has no invalidate_range_end that could wait",
            "use interface: register or get, and leave out end: false",
        )
    return Subscriber(
        name=name,
        buffer=buffer,
        policy=policy,
        errno=_word(mapping["errno"], ERRNOS, mapping.at("errno"), "errno") if "errno" in mapping else "",
        when=_word(mapping["when"], WHENS, mapping.at("when"), "time to fail") if "when" in mapping else "",
        wait_ms=_number(mapping.get("wait_ms", 0), 0, WAIT_MS_MAX, f"{mapping.at('wait_ms')}: wait_ms"),
        interface=interface,
        end=end,
        end_ms=end_ms,
        offset=offset,
        accessed=accessed,
    )


def _entry(name: str, entry: Any, top: strict_yaml.Mapping, section: str) -> strict_yaml.Mapping:
    if not forms.NAME.fullmatch(name):
        raise UsageError(f"{top.at(section)}: {name!r} is not a name (lower-case words joined by '-')")
    if not isinstance(entry, strict_yaml.Mapping):
        raise UsageError(f"{top.at(section)}: {name!r} must be a mapping")
    return entry


def _step(
    entry: Any,
    top: strict_yaml.Mapping,
    names: Mapping[str, set[str]],
    pressures: Mapping[str, Mapping[str, bool]],
) -> Step:
    if not isinstance(entry, strict_yaml.Mapping):
        raise UsageError(f"{top.at('steps')}: a step is a mapping, as in '{{touch: held, seed: 1}}'")
    verb = next(iter(entry), "")
    if verb not in VERBS:
        raise UsageError(f"{entry.at()}: a step begins with its verb, and {verb!r} is not a verb", offer(verb, VERBS))
    keys = VERBS[verb][1]
    target = _target(entry, verb, names)
    if verb == "pressure":
        keys = frozenset(pressures[target])
        for key, needed in pressures[target].items():
            if needed:
                entry.need(key, f"pressure {target!r}")
    entry.only({verb, *COMMON, *keys}, f"step {verb!r}")
    arguments = {key: entry[key] for key in entry if key not in (verb, *COMMON)}
    for key, value in arguments.items():
        _spoken(entry, key, forms.WORDS if key in forms.SPOKEN else forms.WORD)
        if key in CHOICES:
            _word(value, CHOICES[key][0], entry.at(key), CHOICES[key][1])
    for key in sorted(REQUIRED.get(verb, ())):
        entry.need(key, f"step {verb!r}")
    if "into" in arguments:
        _word(arguments["into"], names["buffer"], entry.at("into"), "buffer")
    doer = _doer(entry, names["process"])
    expect = entry.get("expect", {})
    if not isinstance(expect, dict):
        raise UsageError(f"{entry.at('expect')}: expect must be a mapping from a field of the reply to its value")
    return Step(verb, target, arguments, dict(expect), entry.at(verb), *doer, _again(entry))


def _target(entry: strict_yaml.Mapping, verb: str, names: Mapping[str, set[str]]) -> str:
    kind = VERBS[verb][0]
    target = _spoken(entry, verb, forms.TARGETS.get(kind, forms.WORD))
    if kind in names:
        return _word(target, names[kind], entry.at(verb), kind)
    if kind == "new" and not forms.NAME.fullmatch(target):
        raise UsageError(f"{entry.at(verb)}: {target!r} is not a name (lower-case words joined by '-')")
    return target


def _spoken(entry: strict_yaml.Mapping, key: str, form: re.Pattern[str]) -> str:
    """A value as it stands in a line for the driver."""
    value = entry[key]
    if not isinstance(value, str | int) or not form.fullmatch(str(value)):
        raise UsageError(f"{entry.at(key)}: {key} cannot be {value!r}", "a word or a number, without quotes in it")
    return str(value)


def _again(entry: strict_yaml.Mapping) -> bool:
    again = entry.get("again", False)
    if not isinstance(again, bool):
        raise UsageError(f"{entry.at('again')}: again must be true or false, not {again!r}")
    if again and "background" not in entry:
        raise UsageError(f"{entry.at('again')}: only a thread does something again and again", "add background: NAME")
    return again


def _doer(entry: strict_yaml.Mapping, processes: Collection[str]) -> tuple[str, str]:
    """The thread and the child process that do a step; empty for the driver's own."""
    process = _word(entry["in"], processes, entry.at("in"), "process") if "in" in entry else ""
    thread = str(entry.get("background", ""))
    if "background" in entry and not forms.NAME.fullmatch(thread):
        raise UsageError(f"{entry.at('background')}: {thread!r} is not a name (lower-case words joined by '-')")
    return thread, process


def _expectations(steps: Sequence[Step], entries: Sequence[strict_yaml.Mapping], buffers: Collection[str]) -> None:
    """Check what the replies must say: a value, all, '>= N' or '<= N' for fields that such a reply has."""
    for step, entry in zip(steps, entries, strict=True):
        if not step.expect:
            continue
        where = entry.at("expect")
        if step.background:
            raise UsageError(f"{where}: the reply of a thread comes when it is waited for", "expect it of its wait")
        fields = _fields(step, steps, buffers)
        for key, wanted in step.expect.items():
            if key not in fields:
                raise UsageError(f"{where}: unknown field {key!r} in the reply to {step.verb!r}", offer(key, fields))
            if key in TRUTHS:
                good, form = isinstance(wanted, bool), "true or false"
            else:
                good, form = _quantity(wanted, fields), "a number, all, '>= N' or '<= N'"
            if not good:
                raise UsageError(f"{where}: {key} cannot be {wanted!r}", form)


def _mirrors(steps: Sequence[Step], subscribers: Mapping[str, Subscriber], buffers: Mapping[str, Buffer]) -> None:
    """Check what only a mirror or a driver can do, and what it must not."""
    flushed = next((one.name for one in subscribers.values() if one.interface == "tlb"), "")
    for step in steps:
        if flushed and step.background:
            raise UsageError(
                f"{step.where}: {flushed!r} has interface: tlb, and may be told when a range is over: "
                "it is compared while nothing else goes on",
                "leave out background, or use interface: mirror",
            )
        if step.verb == "device-move":
            buffer = buffers[subscribers[step.target].buffer]
            if buffer.kind != "anon" or buffer.thp:
                raise UsageError(
                    f"{step.where}: a driver moves no page of {buffer.name!r}",
                    "that is for anonymous memory which is not in huge pages",
                )
        mirror = step.target in subscribers and subscribers[step.target].interface in MIRRORS
        if step.verb in ("mirror", "compare") and not mirror:
            raise UsageError(f"{step.where}: {step.target!r} is no mirror", "give it interface: mirror")
        if step.arguments.get("access") == "exclusive":
            buffer = buffers[subscribers[step.target].buffer]
            if buffer.kind != "anon" or buffer.thp or subscribers[step.target].interface != "mirror":
                raise UsageError(
                    f"{step.where}: a device gets no page of {buffer.name!r} for itself",
                    "that is for a mirror of anonymous memory which is not in huge pages",
                )
        if step.verb == "policy" and mirror and step.arguments.get("to") != "accept":
            raise UsageError(f"{step.where}: {step.target!r} is a mirror, which accepts", "use another subscriber")


def _quantity(wanted: Any, fields: Collection[str]) -> bool:
    """Whether it is one that a number can be expected to be; `all` are as many as are held, or as there are pages."""
    if isinstance(wanted, str):
        return forms.WANTED.fullmatch(wanted) is not None or (
            wanted == "all" and not {"held", "pages"}.isdisjoint(fields)
        )
    return isinstance(wanted, int) and not isinstance(wanted, bool) and abs(wanted) < forms.NUMBER_MAX


def _fields(step: Step, steps: Sequence[Step], buffers: Collection[str]) -> frozenset[str]:
    """The fields of the reply to a step; a wait gives the reply to what its thread did."""
    match step.verb:
        case "wait":
            done = [one for one in steps if (one.background, one.process) == (step.target, step.process)]
            told = [_fields(one, steps, buffers) for one in done if one.verb != "wait"]
            return REPLIED.union(*told, {TIMES} if any(one.again for one in done) else ())
        case "pressure":
            return REPLIED | PRESSED.get(step.target, frozenset())
        case "pages" if step.target in buffers:
            return REPLIED | PAGEMAP
        case "advise" if step.arguments.get("advice") != "soft-offline":
            return REPLIED
    return REPLIED | REPLIES.get(step.verb, frozenset())


def unwritten(name: str, shape: MachineShape) -> Scenario:
    """The scenario of a guest that no file drives: nothing is done in it, and nothing is demanded of it."""
    return Scenario(name, Path(), "", False, shape, {}, {}, {}, (), {})


def renamed(scenario: Scenario, name: str) -> Scenario:
    """The same scenario under another name, as a round of --repeat has it."""
    return dataclasses.replace(scenario, name=name)
