# SPDX-License-Identifier: GPL-2.0-only
"""--sandbox: a hostile tree is built, and reaches nothing of the host; what it leaves behind is not followed."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host import sandbox
from harness.kernel import build as builds
from harness.kernel import config, modules, patches, selftests
from harness.kernel.build import KernelBuild
from harness.kernel.source import fetch
from harness.model.errors import BuildError, LaunchError, UsageError
from tests.unit.conftest import Said


@pytest.fixture(params=["bwrap", "unshare"])
def sandboxed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each tool that is here and may make sandboxes."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    monkeypatch.setattr(sandbox, "_TOOLS", (request.param,))
    monkeypatch.setenv(sandbox.VARIABLE, "1")
    sandbox.tool.cache_clear()
    try:
        yield sandbox.tool()
    except LaunchError as error:
        pytest.skip(error.message)
    finally:
        sandbox.tool.cache_clear()


def build(tree: Path, cache: Path, said: Said | None = None) -> KernelBuild:
    source = fetch(str(tree), cache)
    return builds.build(source, patches.load(["none"], source.version), config.load([]), cache, said or Said())


# Above the folders that it sees, a sandbox has empty ones of its own, in which nothing lasts.
# What a hostile tree does at every call of make and of its own script; it notes in its object tree what worked.
_HOSTILE = """\
cat {secret} > "$1/stolen" && echo secret >> "$1/worked"
touch {home}/owned && echo home >> "$1/worked"
echo >> {tree}/Makefile && echo tree >> "$1/worked"
touch {cache}/owned; ls {cache}/locks && echo cache >> "$1/worked"
cat /etc/shadow && echo shadow >> "$1/worked"
perl -MIO::Socket::INET -e 'IO::Socket::INET->new("127.0.0.1:{port}") or exit 1' && echo network >> "$1/worked"
perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new("{socket}") or exit 1' && echo socket >> "$1/worked"
cat /proc/{pid}/environ && echo process >> "$1/worked"
kill -0 {pid} && echo kill >> "$1/worked"
old=$(cat /proc/sys/vm/overcommit_memory) && echo "$old" > /proc/sys/vm/overcommit_memory && echo sysctl >> "$1/worked"
mkdir -p "$1" && echo ran >> "$1/ran"
exit 0
"""


def hostile(toy: Path, cache: Path, folder: Path, port: int) -> None:
    """Make a tree hostile."""
    secret = folder / "secret"
    secret.write_text("key")
    script = _HOSTILE.format(
        secret=secret, home=Path.home(), tree=toy, cache=cache, port=port, socket=folder / "socket", pid=os.getpid()
    )
    (toy / "scripts/hostile.sh").write_text(script)
    makefile = toy / "Makefile"
    text = makefile.read_text()
    call = "$(shell sh $(src)/scripts/hostile.sh $(out) >/dev/null 2>&1)\n"
    makefile.write_text(text.replace("# As in the real kernel", f"{call}\n# As in the real kernel", 1))
    merge = toy / "scripts/kconfig/merge_config.sh"
    merge.write_text(
        merge.read_text().replace("out=$3\n", 'out=$3\nsh "${0%/*}/../hostile.sh" "$out" >/dev/null 2>&1\n')
    )


def noted(cache: Path, name: str) -> list[str]:
    """What the hostile scripts noted, wherever make ran."""
    return [line for path in cache.rglob(name) for line in path.read_text().split()]


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[int]:
    """A port and a socket of the host that answer."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as named:
        named.bind(str(tmp_path / "socket"))
        named.listen()
        yield server.getsockname()[1]


@pytest.mark.usefixtures("variants")
def test_a_hostile_tree_is_built_and_reaches_nothing(
    sandboxed: str, toy: Path, cache: Path, tmp_path: Path, listening: int
) -> None:
    """Neither at its configuration, its build, a module's nor a selftest's."""
    hostile(toy, cache, tmp_path, listening)
    before = (toy / "Makefile").read_text()

    kernel = build(toy, cache)

    assert kernel.vmlinux.exists()
    module = tmp_path / "driver"
    module.mkdir()
    (module / "driver.c").write_text("int x;\n")
    assert modules.build_module(module, kernel, cache).exists()
    assert selftests.program("toy_test", kernel, cache).exists()
    assert len(noted(cache, "ran")) >= 4
    assert noted(cache, "worked") == []
    assert list(cache.rglob("stolen")) == [] or noted(cache, "stolen") == []
    assert not (cache / "owned").exists()
    assert not (Path.home() / "owned").exists()
    assert (toy / "Makefile").read_text() == before
    assert sandbox.name() == sandboxed


@pytest.mark.usefixtures("variants")
def test_without_a_sandbox_the_same_tree_does_all_of_that(
    toy: Path, cache: Path, tmp_path: Path, listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This shows that the tests see it."""
    monkeypatch.delenv(sandbox.VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    hostile(toy, cache, tmp_path, listening)

    build(toy, cache)

    assert {"secret", "home", "tree", "cache", "network", "socket", "process", "kill"} <= set(noted(cache, "worked"))


@pytest.mark.usefixtures("variants")
def test_what_was_made_in_a_sandbox_runs_nowhere_else(
    sandboxed: str, toy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Object trees hold programs that make runs, and a cache of compilers what is linked."""
    build(toy, cache)
    made = {path.name for path in cache.glob("trees/*/objects/*")} | {path.name for path in cache.glob("ccache*")}
    monkeypatch.delenv(sandbox.VARIABLE)
    (toy / "mm/rmap.c").write_text((toy / "mm/rmap.c").read_text() + "\nint more;\n")

    build(toy, cache)

    now = {path.name for path in cache.glob("trees/*/objects/*")} | {path.name for path in cache.glob("ccache*")}
    assert made == {"base-gcc-sandbox", "ccache-sandbox"}
    assert now == made | {"base-gcc", "ccache"}
    assert sandboxed


@pytest.mark.parametrize(
    ("lure", "what"),
    [
        ("ln -s {secret} $(out)/System.map", "is a link to {secret}"),
        ("ln -s {folder} $(out)/include", "is a link to {folder}"),
        ("mkfifo $(out)/System.map", "is no file"),
        ("cp /bin/true $(out)/sh; chmod 4755 $(out)/sh", "set-user-ID"),
    ],
)
@pytest.mark.usefixtures("variants")
def test_what_a_hostile_tree_leaves_for_the_harness_to_follow_is_refused(
    lure: str, what: str, sandboxed: str, toy: Path, cache: Path, tmp_path: Path
) -> None:
    """It is no failure of the kernel: this tree cannot be judged."""
    secret = tmp_path / "secret"
    secret.write_text("key")
    makefile = toy / "Makefile"
    text = makefile.read_text()
    lure = lure.format(secret=secret, folder=tmp_path)
    makefile.write_text(text.replace('\t@echo "  LD      vmlinux"\n', f'\t@echo "  LD      vmlinux"\n\t@{lure}\n', 1))

    with pytest.raises(BuildError, match="--sandbox: the build made") as caught:
        build(toy, cache)

    assert what.format(secret=secret, folder=tmp_path) in caught.value.message
    assert not list((cache / "kernels").glob("*/vmlinux"))
    assert sandboxed


def test_links_within_what_is_built_are_left_alone(tmp_path: Path) -> None:
    obj, tree = tmp_path / "obj", tmp_path / "tree"
    (obj / "scripts").mkdir(parents=True)
    tree.mkdir()
    (obj / "source").symlink_to(tree)
    (obj / "scripts/one").symlink_to("../two")
    (obj / "gone").symlink_to("nothing")

    sandbox.sweep(obj, [tree])


@pytest.mark.usefixtures("variants")
def test_a_build_that_fails_in_a_sandbox_is_told_as_any_other(sandboxed: str, toy: Path, cache: Path) -> None:
    (toy / "mm/rmap.c").write_text("int x = nothing_of_that_name;\n")

    with pytest.raises(BuildError, match=r"mm/rmap\.c:1.*nothing_of_that_name"):
        build(toy, cache)
    assert sandboxed


def test_what_a_tree_would_run_goes_through_one_door() -> None:
    """The others run the system's programs, on data. A module that starts another must be looked at."""
    folder = Path(builds.__file__).parent
    direct = [path.name for path in folder.glob("*.py") if re.search(r"process\.(run|spawn)\(", path.read_text())]

    assert sorted(direct) == [
        "apt.py", "archive.py", "built.py", "lines.py", "places.py", "selftests.py", "toolchain.py"
    ]  # fmt: skip


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(sandbox.VARIABLE, "1")
    sandbox.tool.cache_clear()
    yield
    sandbox.tool.cache_clear()


@pytest.mark.usefixtures("untried")
def test_no_tool_is_one_line_with_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)

    with pytest.raises(LaunchError, match="--sandbox: neither bwrap nor unshare is in PATH") as caught:
        sandbox.tool()
    assert "bubblewrap" in caught.value.hint


@pytest.mark.usefixtures("untried")
def test_a_tool_that_may_not_is_no_fault_of_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    with pytest.raises(LaunchError, match="bwrap can make none here: bwrap: No permissions"):
        sandbox.name()


@pytest.mark.usefixtures("untried")
def test_a_compiler_that_a_sandbox_would_not_see_is_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "gcc"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    with pytest.raises(UsageError, match=r"--sandbox: gcc is .*/gcc, and only the system's programs"):
        sandbox.check(["make", "gcc"])


@pytest.mark.parametrize(("value", "wanted"), [("", False), ("0", False), ("1", True), ("yes", True)])
def test_a_variable_asks_for_it_too(value: str, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sandbox.VARIABLE, value)

    assert sandbox.demanded() is wanted
    assert sandbox.apart("obj") == ("obj-sandbox" if wanted else "obj")


@pytest.mark.parametrize("command", ["run", "build", "bisect", "mutants", "explore", "shell"])
def test_every_command_that_builds_a_kernel_has_the_option(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness import cli

    monkeypatch.setenv(sandbox.VARIABLE, "")
    module = importlib.import_module(f"harness.commands.{command}")
    monkeypatch.setattr(module, "main", lambda _: 0 if sandbox.demanded() else 1)

    cli.parse([command, "--sandbox"])

    assert not sandbox.demanded(), "a command line that is only read changes nothing"
    assert cli.main([command]) == 1
    assert cli.main([command, "--sandbox"]) == 0
