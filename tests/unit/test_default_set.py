# SPDX-License-Identifier: GPL-2.0-only
"""The default set is chosen by evidence: the quickest scenarios that together kill every mutant of the patch."""

from __future__ import annotations

from harness.kernel import versions
from harness.variants import catalogue, mutants

# Mutants that only a scenario sees which the default set has no time for; `run all` kills them.
LATER = {
    "copy-tells-too-early": "mirror-beside-copy",
    "device-move-tells-too-early": "mirror-device-move-beside",
    "discard-tells-too-early": "mirror-beside-discard",
    "exclusive-tells-too-early": "mirror-exclusive-beside-taken",
    "hugetlb-copy-tells-too-early": "mirror-hugetlb-beside-copy",
    "hugetlb-migration-tells-of-half": "mirror-hugetlb-migrate",
    "hugetlb-move-tells-nobody": "mirror-hugetlb-move",
    "inserts-and-tells-of-one-page": "mirror-device-move-beside-zero",
    "inserts-in-silence": "mirror-device-move-beside-zero",
    "ksm-merges-in-silence": "mirror-beside-ksm",
    "marks-all-but-kswapd": "kswapd",
    "migration-tells-of-one-page": "mirror-compaction-large",
    "migration-tells-too-early": "mirror-beside-migrate",
    "protection-tells-too-early": "mirror-beside-write-protect",
    "range-ends-behind-the-mapping": "thp-lazyfree",
    "refusal-leaks-a-reference": "reference-counts",
    "refusal-loses-dirty": "released-after-refusal-shmem",
    "restored-entry-keeps-the-swap": "pinned-swapcache",
    "scan-tells-too-early": "mirror-beside-scan",
    "takes-back-and-tells-later": "mirror-exclusive-beside-compared",
    "userfault-move-tells-too-early": "mirror-beside-move",
}

# What they show is the patch's own story.
STORY = {"global-accept", "half-built-mayfail", "half-built-waits", "memcg-accept", "shmem-pinned"}


def tried() -> dict[str, set[str]]:
    """Mutant of the patch on the default kernel → the scenarios that its file names."""
    known = catalogue.scenarios()
    families: dict[str, set[str]] = {name: {name} for name in known}
    for scenario in known.values():
        families.setdefault(scenario.path.stem, set()).add(scenario.name)
    chosen, _ = mutants.choose([], versions.DEFAULT.partition(":")[2])
    of_patch = [one for one in chosen if one.expected and one.path.suffix == ".patch" and not one.configs]
    return {mutant.name: set().union(*(families[name] for name in mutant.scenarios)) for mutant in of_patch}


def test_the_default_set_tries_every_mutant_but_those_that_are_named_here() -> None:
    """That each is killed is what `harness mutants` shows, each night."""
    default = {scenario.name for scenario in catalogue.choose([])}
    named = tried()

    assert len(named) > 100
    assert {name for name, scenarios in named.items() if not scenarios & default} == LATER.keys()
    assert all(later in named[name] for name, later in LATER.items())


def test_the_default_set_has_nothing_that_kills_no_mutant() -> None:
    default = {scenario.name for scenario in catalogue.choose([])}

    assert default - set().union(*tried().values()) <= STORY
