#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Toy merge_config.sh -m -O OUT FILE…: later files override earlier files.
[ "$1" = -m ] && [ "$2" = -O ] || exit 2
out=$3
# As the real one does, where it is called.
tmp=$(mktemp ./.tmp.config.XXXXXXXXXX) || exit 1
rm "$tmp"
shift 3
: > "$out/.config"
for file; do
	while read -r line; do
		case $line in
		CONFIG_*=*) symbol=${line%%=*} ;;
		"# CONFIG_"*" is not set") symbol=${line#\# } symbol=${symbol%% *} ;;
		*) continue ;;
		esac
		sed -i "/^$symbol=/d; /^# $symbol is not set/d" "$out/.config"
		echo "$line" >> "$out/.config"
	done < "$file"
done
