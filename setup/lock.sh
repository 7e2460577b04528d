#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Writes requirements.lock: the newest versions that pyproject.toml allows, with hashes, for every supported Python.
#
# Arguments go to `uv pip compile`, for example --upgrade-package pytest; without any, everything is upgraded.
set -eu

cd "$(dirname "$0")/.."
uv=$(mktemp -d "${TMPDIR:-/tmp}/harness-lock.XXXXXX")
trap 'rm -rf "$uv"' EXIT
.venv/bin/python -m venv "$uv/venv"
"$uv/venv/bin/pip" install --quiet 'uv>=0.8,<1'

cp requirements.lock "$uv/lock"
[ $# -gt 0 ] || set -- --upgrade
# --universal: one file with markers serves every Python and platform. The file gets no address of an index.
"$uv/venv/bin/uv" pip compile pyproject.toml --group dev \
    --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
    --quiet --output-file "$uv/lock" "$@"
{
    echo '# SPDX-License-Identifier: GPL-2.0-only'
    echo '# Made by "make lock" from pyproject.toml. Do not edit.'
    cat "$uv/lock"
} >requirements.lock
echo "lock: requirements.lock holds $(grep -c '==' requirements.lock) packages"
