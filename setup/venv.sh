# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
# The virtual environment .venv: exactly the packages of requirements.lock, checked by hash, and this checkout in it.

stamp=.venv/harness-set-up

# choose_python: the first Python in PATH that is new enough and can make a virtual environment.
choose_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 /usr/bin/python3}; do
        # Run it: a version manager's shim is in PATH and may still refuse.
        if "$candidate" -I -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

# set_up_key: changes when what .venv must hold changes, or where it lies (its scripts name their interpreter by path).
set_up_key() {
    { pwd && cat setup/packages.tsv setup/venv.sh requirements.lock pyproject.toml; } | sha256sum | cut -d ' ' -f 1
}

# venv_ready KEY: was it finished for this key, and does it still answer?
venv_ready() {
    [ "$(sed -n 1p "$stamp" 2>/dev/null)" = "$1" ] && [ -x .venv/bin/harness ] &&
        .venv/bin/python -I -c 'from importlib.metadata import version; version("kernel-harness")' 2>/dev/null
}

# pip without what a user's settings could change about where packages go.
venv_pip() {
    logged env -u PYTHONPATH -u PYTHONHOME PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 \
        .venv/bin/python -m pip install --progress-bar off "$@"
}

make_venv() { # KEY
    python=$(choose_python) || fail "no Python 3.11 or newer with venv and ensurepip in PATH"
    # It would be emptied where it is.
    [ ! -L .venv ] || fail ".venv is a link, and what it points to may be another checkout's: rm .venv"
    if [ -e .venv ] && [ ! -e .venv/pyvenv.cfg ] && [ -n "$(ls -A .venv)" ]; then
        fail ".venv is there and is no virtual environment: move it away"
    fi
    rm -f "$stamp"
    say "python: $("$python" --version) makes .venv"
    logged "$python" -m venv --clear .venv || fail "the virtual environment could not be made"
    steps_total=$(grep -c '==' requirements.lock)
    say "pip: installing $steps_total locked packages"
    venv_pip --require-hashes -r requirements.lock || fail "pip could not install the locked packages"
    # The build backend is locked too: without isolation nothing else is fetched.
    venv_pip --quiet --no-deps --no-build-isolation --editable . || fail "pip could not install this checkout"
}
