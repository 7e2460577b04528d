#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# From a bare Debian to a verdict: debootstrap makes the system, and in it a person types what README says.
#
#   sh setup/bare.sh SUITE FOLDER      e.g. trixie /var/tmp/bare
#
# The system has git, make and the certificates that this machine trusts (its proxy's may be among them), and nothing
# else: whatever else is needed, `make run` must install. Afterwards come the unit tests and a few that boot guests.
# It becomes root through sudo. FOLDER must not be there; it is gone afterwards, unless this is killed
# outright, and nothing is left mounted.
set -eu

say() { printf 'bare: %s\n' "$*"; }
fail() {
    printf 'bare: error: %s\n' "$*" >&2
    exit 128
}

[ $# -eq 2 ] || fail "usage: sh setup/bare.sh SUITE FOLDER"
suite=$1
case $2 in /*) root=$2 ;; *) root=$PWD/$2 ;; esac
case $suite in *[!a-z]* | '') fail "$suite: not the code name of a Debian release, such as trixie" ;; esac
cd "$(dirname "$0")/.."

if [ -z "${HARNESS_BARE_INSIDE:-}" ]; then
    # Only root may change the root directory.
    [ "$(id -u)" -eq 0 ] || exec sudo --non-interactive -- sh setup/bare.sh "$suite" "$root"
    PATH=$PATH:/usr/sbin:/sbin command -v debootstrap >/dev/null || fail "debootstrap is missing: sh setup/setup.sh nightly installs it"
    [ ! -e "$root" ] || fail "$root is there already: name a folder that is not"
    mkdir -p "$(dirname "$root")"
    # Mounts and processes live in namespaces of their own, which end with the first process in them.
    trap 'rm -rf --one-file-system -- "$root"' EXIT
    trap 'exit 143' TERM
    trap 'exit 130' INT
    status=0
    HARNESS_BARE_INSIDE=yes unshare --mount --propagation private --pid --fork --kill-child=KILL \
        sh setup/bare.sh "$suite" "$root" || status=$?
    exit "$status"
fi

# The mirrors of this machine serve its other releases, too. LABEL: what the archive calls itself.
mirror() { # LABEL
    # shellcheck disable=SC2016 # apt-get fills in the names.
    LC_ALL=C apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
        sed -n "s/^$1|//p" | head -n 1
}
debian=$(mirror Debian)
security=$(mirror Debian-Security)
[ -n "$debian" ] || fail "apt-get indextargets names no mirror of Debian: apt-get update"

say "$suite in $root"
began=$(date +%s)
debootstrap --variant=minbase --include=ca-certificates,git,make "$suite" "$root" "$debian" >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log" >&2 && rm -f "$root.log" && fail "debootstrap ended with an error"; }
rm -f "$root.log"
{
    echo "deb $debian $suite main"
    [ -z "$security" ] || echo "deb $security $suite-security main"
} >"$root/etc/apt/sources.list"
# How this machine gets to its mirrors.
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
git clone --quiet --no-hardlinks . "$root/root/kernel-harness"

inside() {
    say "$suite: $*"
    # Nothing of the environment but the way out: a person's settings are not those of a new machine.
    env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        ${http_proxy:+"http_proxy=$http_proxy"} ${https_proxy:+"https_proxy=$https_proxy"} \
        PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DEFAULT_TIMEOUT=180 \
        chroot "$root" sh -c "cd /root/kernel-harness && $*" </dev/null
    say "$suite: $1 ended after $(($(date +%s) - began)) s from the start"
}

inside make run
inside .venv/bin/pytest -q -p no:cacheprovider -n auto tests/unit
inside .venv/bin/pytest -q -p no:cacheprovider -n 0 \
    tests/guest/test_machine.py::test_ssh_runs_commands_and_copies_files \
    tests/guest/test_machine.py::test_the_kernel_log_is_followed_as_it_comes \
    tests/guest/test_machine.py::test_a_guest_that_breaks_out_of_qemu_finds_no_rights_no_files_and_no_network
say "$suite passed"
