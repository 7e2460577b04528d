# SPDX-License-Identifier: GPL-2.0-only
"""harness completion: the script by which a shell completes the words of our command lines."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

SHELLS = ("bash", "zsh", "fish")
_PROGRAM = "harness"


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("shell", choices=SHELLS, help='in its start-up file: eval "$(harness completion bash)"')


def main(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from argcomplete.shell_integration import shellcode

    # bash and zsh call the program as it was typed; fish has to be told where it is.
    program = shlex.quote(str(Path(sys.argv[0]).absolute())) if arguments.shell == "fish" else None
    print(shellcode([_PROGRAM], shell=arguments.shell, argcomplete_script=program))
    return 0
