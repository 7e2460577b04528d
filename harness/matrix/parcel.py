# SPDX-License-Identifier: GPL-2.0-only
"""What one machine made, on its way to another: a kernel of the store with its modules, or a run directory."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from harness.host import workspace
from harness.kernel import modules
from harness.model.errors import MachineError
from harness.variants import instruments

# What a run needs of the cache beside the source; a module's key follows from the kernel's.
_ENTRY = re.compile(r"(?P<entry>(?:kernels|modules)/[0-9a-f]{20})/(?P<file>[A-Za-z0-9][A-Za-z0-9._-]*)")
_MEMO = re.compile(r"kernels/inputs/[0-9a-f]{20}")
# A run directory above this comes without its largest files: memory images, then event logs.
RUN_LIMIT_BYTES = 256 << 20


def pack_kernel(vmlinux: Path, cache: Path) -> bytes:
    """The entries of the store by which another machine takes a kernel for built."""
    kernel = vmlinux.parent
    folders = [instruments.NOTIFIER_HOLD.module, workspace.data("guest-modules") / "types"]
    entries = [kernel, *(cache / "modules" / modules.key_of(folder, kernel.name) for folder in folders if folder)]
    files = [path for entry in entries if entry.is_dir() for path in sorted(entry.iterdir()) if path.is_file()]
    memos = [path for path in (cache / "kernels" / "inputs").glob("*") if path.read_bytes() == kernel.name.encode()]
    return _packed((path, str(path.relative_to(cache))) for path in [*files, *memos])


def unpack_kernel(content: bytes, cache: Path) -> None:
    """Put what pack_kernel() packed into this machine's store; what is there and whole stays."""
    held: dict[str, dict[str, bytes]] = {}
    memos: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is not None and (found := _ENTRY.fullmatch(member.name)):
                held.setdefault(found["entry"], {})[found["file"]] = stream.read()
            elif stream is not None and _MEMO.fullmatch(member.name):
                memos[member.name] = stream.read()
            else:
                raise MachineError(f"a kernel from another machine has a file {member.name!r}, which no kernel has")
    for name, files in held.items():
        entry = cache / name
        with workspace.lock(cache / "locks" / f"parcel-{entry.name}.lock"):
            if not workspace.whole(entry):
                with workspace.publishing(entry) as fresh:
                    for file, text in files.items():
                        if file != workspace.DIGESTS:
                            (fresh / file).write_bytes(text)
    # Last: who finds one believes that the kernel is there.
    for name, text in memos.items():
        workspace.write_atomic(cache / name, text)


def pack_run(folder: Path) -> bytes:
    """A run directory; what is left out of a large one is in the folder still."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    for left_out in ("*.kdump", "events/*.bin"):
        if sum(path.stat().st_blocks * 512 for path in files) > RUN_LIMIT_BYTES:
            files = [path for path in files if not path.match(left_out)]
    return _packed((path, str(path.relative_to(folder))) for path in files)


def unpack_run(content: bytes, folder: Path) -> None:
    """Write a run directory; nothing outside it is written, whatever the names in it are."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive, workspace.space(folder):
        archive.extractall(folder, filter="data")


def _packed(files: Iterator[tuple[Path, str]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        for path, name in files:
            archive.add(path, name, recursive=False)
    return stream.getvalue()
