# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
# The system's packages: which are missing, under which names, and how Debian installs them.

packages=setup/packages.tsv
os_release=${HARNESS_OS_RELEASE:-/etc/os-release}

# rows COLUMN: "need probe name" of each package that a system has; COLUMN is the system's column in the table.
# What the night alone needs is among them when $nightly is set.
rows() {
    awk -F '\t' -v column="$1" -v nightly="${nightly:-}" \
        '!/^#/ && $column != "-" && ($1 != "nightly" || nightly) { print $1, $3, $column }' "$packages"
}

# present PROBE: is the tool there? (see packages.tsv for the forms)
present() {
    case $1 in
    python) choose_python >/dev/null ;;
    /*)
        old_ifs=$IFS
        IFS='|'
        for pattern in $1; do # unquoted: the shell expands the pattern
            if [ -e "$pattern" ]; then
                IFS=$old_ifs
                return 0
            fi
        done
        IFS=$old_ifs
        return 1
        ;;
    *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
    esac
}

# system: "column installer" of the system we are on; only Debian itself is ever changed.
system() {
    (
        ID=unknown
        ID_LIKE=
        # shellcheck disable=SC1090 # The file is the system's own.
        [ ! -r "$os_release" ] || . "$os_release"
        [ "$ID" != debian ] || { echo "4 debian" && exit; }
        for name in $ID $ID_LIKE; do
            case $name in
            fedora | rhel | centos) echo "5 dnf install" && exit ;;
            arch | manjaro) echo "6 pacman -S --needed" && exit ;;
            opensuse* | suse | sles) echo "7 zypper install" && exit ;;
            alpine) echo "8 apk add" && exit ;;
            debian | ubuntu) echo "4 apt-get install" && exit ;;
            esac
        done
        echo "4 (the names are Debian's)"
    )
}

# On a system that is not Debian: name what is missing and stop before anything is changed.
check_foreign_packages() { # COLUMN INSTALLER…
    column=$1
    shift
    absent=$(rows "$column" | while read -r need probe name; do
        case $name in linux-source-*) continue ;; esac
        [ "$need" != required ] || present "$probe" || echo "$name"
    done | sort -u | tr '\n' ' ')
    if [ -n "$absent" ]; then
        say "this is not Debian, so nothing is installed here. Missing packages, by this system's names:"
        for name in $absent; do printf '  %s\n' "$name"; done
        say "install them with: $* ${absent% }"
        fail "packages are missing, nothing was changed"
    fi
    say "this is not Debian: there is no linux-source package, give a kernel with --source DIR, TARBALL or git:PATH@REV"
}

# missing_debian [ABSENT…]: "need name" of each package that is not installed, less those known to be in no source.
missing_debian() {
    # One call of dpkg-query; it exits 1 when it does not know a package, and still reports the others.
    # shellcheck disable=SC2046 # One word for each name is meant.
    installed=" $(dpkg-query --show --showformat '${Package} ${db:Status-Status}\n' $(rows 4 | cut -d ' ' -f 3) \
        2>/dev/null | sed -n 's/ installed$//p' | tr '\n' ' ') $* "
    rows 4 | while read -r need _ name; do
        case $installed in *" $name "*) ;; *) echo "$need $name" ;; esac
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo --non-interactive -- "$@"
    fi
}

# become_root: ask for the password now, when a person sees the prompt; without a terminal nobody could answer.
become_root() {
    [ "$(id -u)" -ne 0 ] || return 0
    command -v sudo >/dev/null || return 1
    if [ -t 0 ]; then
        sudo --validate
    else
        sudo --non-interactive --validate 2>/dev/null
    fi
}

apt_get() {
    # Another apt-get may be running (a fresh cloud machine updates itself): wait for it, at most ten minutes.
    logged as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
        apt-get -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@"
}

# without_candidate NAME…: prints the names that no package source has.
without_candidate() {
    known=" $(LC_ALL=C apt-cache policy "$@" 2>/dev/null |
        awk '/^[^ ].*:$/ { name = substr($0, 1, length($0) - 1) } $1 == "Candidate:" && $2 != "(none)" { print name }' |
        tr '\n' ' ') "
    for name in "$@"; do
        case $known in *" $name "*) ;; *) echo "$name" ;; esac
    done
}

update_lists() {
    say "apt-get: updating the package lists"
    apt_get update || fail "apt-get update failed"
    updated=yes
}

# Installs what is missing. Sets absent_packages to the optional ones that this Debian does not have.
install_debian_packages() { # NEED-AND-NAME-LINES
    names=$(printf '%s\n' "$1" | cut -d ' ' -f 2 | tr '\n' ' ')
    names=${names% }
    required=" $(printf '%s\n' "$1" | sed -n 's/^required //p' | tr '\n' ' ')"
    if ! become_root; then
        say "root must do this, and sudo does not let us: apt-get install --no-install-recommends $names"
        fail "packages are missing, nothing was changed"
    fi
    updated=
    # The lists must be a day old at most, or they name versions that the mirror no longer has.
    # shellcheck disable=SC2086 # One word for each name is meant, here and below.
    if [ -z "$(find /var/lib/apt/lists /var/lib/apt/lists/partial -maxdepth 0 -mtime -1 2>/dev/null)" ] ||
        [ -n "$(without_candidate $names)" ]; then
        update_lists
    fi
    absent_packages=
    # shellcheck disable=SC2086
    for name in $(without_candidate $names); do
        case $required in
        *" $name "*)
            case $name in
            linux-source-*) say "Debian 12 has it in bookworm-security; is that in /etc/apt/sources.list?" ;;
            esac
            fail "the package $name is in none of this machine's package sources"
            ;;
        esac
        case $name in
        linux-source-*) say "$name is not in this Debian: the kernel of that version needs --source here" ;;
        *) say "$name is not in this Debian: the tests that need it are skipped" ;;
        esac
        absent_packages="$absent_packages $name"
        names=$(printf ' %s ' "$names" | sed "s/ $name / /")
    done
    [ -n "$(printf %s "$names" | tr -d ' ')" ] || return 0
    # shellcheck disable=SC2086
    say "apt-get: installing" $names
    # shellcheck disable=SC2086
    if ! apt_get install --yes --no-install-recommends $names; then
        # A killed apt-get leaves packages half configured, and lists can be outdated within a day.
        say "apt-get: failed, trying once more"
        logged as_root dpkg --configure -a || :
        [ -n "$updated" ] || update_lists
        # shellcheck disable=SC2086
        apt_get install --yes --no-install-recommends $names || fail "apt-get install failed"
    fi
}
