#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Makes this checkout ready to run: the system's packages, then .venv. Says at once when there is nothing to do.
#
# POSIX sh: it must get as far as naming the missing packages on a system that has nothing else.
# `setup.sh nightly` also installs what only the tests of make nightly need.
# HARNESS_OS_RELEASE=FILE takes another os-release(5) file, to see what a foreign system would be told.
set -eu

cd "$(dirname "$0")/.."
. setup/report.sh
. setup/packages.sh
. setup/venv.sh

nightly=
[ "${1:-}" != nightly ] || nightly=yes

# Finds out what has to be done: missing is empty, and ready is not, when there is nothing to do.
look() {
    known_absent=$(sed -n 2p "$stamp" 2>/dev/null || true)
    key=$(set_up_key)
    missing=
    # shellcheck disable=SC2086 # One word for each name is meant.
    [ "$installer" != debian ] || missing=$(missing_debian $known_absent)
    ready=yes
    venv_ready "$key" || ready=
}

system=$(system)
column=${system%% *}
installer=${system#* }
# shellcheck disable=SC2086 # The installer's words are meant to be several.
[ "$installer" = debian ] || check_foreign_packages "$column" $installer

look
if [ -z "$missing" ] && [ -n "$ready" ]; then
    closing="ready, nothing to do"
    exit 0
fi

# Two set-ups at the same time in one checkout would overwrite each other's .venv. The lock dies with its holder.
exec 9>.set-up.lock
if ! flock --nonblock 9; then
    say "another set-up is at work in this checkout, waiting for it"
    flock 9
fi
look

absent_packages=$known_absent
[ -z "$missing" ] || install_debian_packages "$missing"
[ -n "$ready" ] || make_venv "$key"
printf '%s\n%s\n' "$key" "$absent_packages" >"$stamp.new"
mv "$stamp.new" "$stamp"
closing="ready"
