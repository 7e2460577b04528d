# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel or a module is, by content: two builds with the same digest behave the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection

from harness.model.errors import BuildError, MachineError


def digest(path: Path) -> str:
    """A digest of all that is loaded, but for notes: the build ID changes with the debug information, too."""
    state = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            # What is not linked yet is what it is by its symbols, too.
            unlinked = elf["e_type"] == "ET_REL"
            for section in elf.iter_sections():
                kind, loaded = section["sh_type"], bool(section["sh_flags"] & SH_FLAGS.SHF_ALLOC)
                symbols = unlinked and kind in ("SHT_SYMTAB", "SHT_STRTAB", "SHT_RELA")
                if kind == "SHT_NOTE" or not (loaded or symbols):
                    continue
                content = b"" if kind == "SHT_NOBITS" else section.data()
                head = f"{section.name} {kind} {section['sh_flags']} {section['sh_addr']} {section['sh_size']}\n"
                state.update(head.encode() + content)
    except (ELFError, ValueError) as error:
        raise MachineError(f"{path}: cannot be read as ELF: {error}") from None
    return state.hexdigest()[:20]


def build_id(vmlinux: Path) -> str:
    """The GNU build id of a kernel, in hex. BuildError when it has none."""
    with vmlinux.open("rb") as stream:
        for section in ELFFile(stream).iter_sections():
            if isinstance(section, NoteSection):
                for note in section.iter_notes():
                    if note["n_type"] == "NT_GNU_BUILD_ID" and note["n_name"] == "GNU":
                        return str(note["n_desc"])
    raise BuildError(f"{vmlinux}: has no build id")
