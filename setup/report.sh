# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
# How set-up reports: progress lines, a log of the tools' output, and exactly one closing line whatever happens.

began=$(date +%s)
closing="FAILED: stopped by an error in the script itself"
# In the checkout and under one name, so that killed set-ups do not leave many logs.
log=.set-up.log
logging=

say() {
    printf 'set-up: %s\n' "$*"
}

# fail MESSAGE [STATUS]: end with MESSAGE as the closing line.
fail() {
    closing="FAILED: $1"
    exit "${2:-1}"
}

# Called on every way out.
close() {
    status=$?
    trap - EXIT INT TERM HUP
    [ -z "$logging" ] || rm -f "$log.status"
    case $closing in
    FAILED*)
        if [ -n "$logging" ]; then
            say "the last lines of $log:"
            tail -n 12 "$log" | sed 's/^/  | /'
        fi
        ;;
    *) [ -z "$logging" ] || rm -f "$log" ;;
    esac
    say "$closing ($(($(date +%s) - began)) s)"
    exit "$status"
}

trap close EXIT
trap 'closing=interrupted; exit 130' INT
trap 'closing=terminated; exit 143' TERM HUP

# logged COMMAND…: run it, keep its output in the log, and show it as counted steps. Returns its status.
# Call it under the lock that setup.sh takes: the log is one file.
logged() {
    [ -n "$logging" ] || : >"$log"
    logging=yes
    printf '+ %s\n' "$*" >>"$log"
    echo 0 >"$log.status"
    { "$@" 2>&1 </dev/null || echo $? >"$log.status"; } | steps
    return "$(cat "$log.status")"
}

# Turns the output of apt-get and pip into one moving counter on a terminal, or a line for every 20th step elsewhere.
steps() {
    total=${steps_total:-0}
    fetched=0
    done_=0
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$log"
        case $line in
        *" newly installed, "*)
            total=${line%% newly installed*}
            total=${total##* }
            ;;
        "Need to get "*) say "apt-get: ${line%.}" ;;
        Get:*)
            fetched=$((fetched + 1))
            step fetching "$fetched" "$total"
            ;;
        "Setting up "*)
            done_=$((done_ + 1))
            step "setting up" "$done_" "$total"
            ;;
        "Collecting "* | "Processing "*)
            done_=$((done_ + 1))
            step "fetching" "$done_" "$total"
            ;;
        "Installing collected packages"*) say "pip: unpacking" ;;
        esac
    done
    [ ! -t 1 ] || printf '\r\033[K'
}

# step WHAT NUMBER TOTAL: a TOTAL of 0 is unknown.
step() {
    counted=$2
    [ "$3" -eq 0 ] || counted="$2 of $3"
    if [ -t 1 ]; then
        printf '\rset-up: %s %s\033[K' "$1" "$counted"
    elif [ $(($2 % 20)) -eq 0 ] || [ "$2" -eq "$3" ]; then
        say "$1 $counted"
    fi
}
