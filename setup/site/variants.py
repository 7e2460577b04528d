# SPDX-License-Identifier: GPL-2.0-only
"""The reference of what there is to choose from: scenarios, configurations, patches, mutants, oracles."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from harness.model.contract import Contract
from harness.variants import catalogue, mutants
from setup.site import markdown
from setup.site.markdown import code, plain

_HEAD = ("name", "what it is")


def scenarios() -> str:
    """Each file of scenarios, with its variants."""
    parts = []
    for file, group in groupby(catalogue.listing("scenarios"), key=lambda entry: entry["file"]):
        variants = list(group)
        default = [entry["name"] for entry in variants if entry["set"] == "default"]
        parts += [f"## {Path(file).stem}", plain(variants[0]["summary"])]
        names = ", ".join(code(entry["name"]) for entry in variants)
        parts.append(f"{names}. {_default(len(default), len(variants))}")
    return markdown.page("Scenarios", "`harness show NAME` tells a scenario step by step.", *parts)


def _default(default: int, all_: int) -> str:
    if default == all_:
        return "In the default set."
    return f"{default} of {all_} are in the default set." if default else "Only by name, or in `all`."


def configs() -> str:
    """Each fragment of the configuration."""
    return markdown.page(
        "Configurations",
        "`--config NAME`, as often as needed. `base` is below each of them. "
        "`harness show NAME` prints a fragment, with the reason of each option.",
        _listing("configs"),
    )


def patches() -> str:
    """Each port of a series."""
    return markdown.page(
        "Patches",
        "A series has a port for each version of Linux that it was tried on; a port serves its version and later ones, "
        "up to the next port.",
        _listing("patches"),
    )


def oracles() -> str:
    """Each oracle in a line."""
    return markdown.page(
        "Oracles",
        "An oracle judges one invariant from the recording of a scenario alone.",
        markdown.table(
            ("oracle", "the invariant"),
            (
                (f"[{entry['name']}](findings.md#{entry['name']})", plain(entry["summary"]))
                for entry in catalogue.listing("oracles")
            ),
        ),
    )


def faults() -> str:
    """Each mutant, and who must see it."""
    rows = []
    for name, ports in mutants.catalogue().items():
        first = ports[0]
        kernels = sorted({kernel for port in ports for kernel in port.kernels}, key=_number)
        contracts = [str(one) for one in Contract if any(one in port.contracts for port in ports)]
        history = f" ({'; '.join(first.history)})" if first.history else ""
        history += "".join(f" (`--config {config}`)" for config in first.configs)
        rows.append(
            (
                code(name),
                plain(first.summary + history),
                first.expected or "equivalent",
                ", ".join(kernels),
                ", ".join(contracts),
            )
        )
    return markdown.page(
        "Mutants",
        "Each is a way to get the patch, or a stock kernel, wrong, with the oracle that must see it; "
        "or another right way to write it (*equivalent*), which no oracle may complain of.",
        markdown.table(("mutant", "what is wrong", "oracle", "kernels", "contracts"), rows),
    )


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _listing(what: str) -> str:
    return markdown.table(_HEAD, ((code(entry["name"]), plain(entry["summary"])) for entry in catalogue.listing(what)))
