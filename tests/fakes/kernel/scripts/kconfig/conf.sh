#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Toy olddefconfig KCONFIG CONFIG: knows its options by name, and one dependency: ZRAM needs SWAP, TEST_HMM needs !TINY.
kconfig=$1 config=$2
has() { grep -q "^CONFIG_$1=[ym]" "$config"; }
: > "$config.new"
for symbol in TINY SWAP ZRAM TEST_HMM; do
	line=$(grep "^CONFIG_$symbol=" "$config" | tail -n 1)
	case $symbol in
	ZRAM) has SWAP || line= ;;
	TEST_HMM) has TINY && line= ;;
	esac
	[ -n "$line" ] && echo "$line" >> "$config.new"
done
has SWAP && echo "CONFIG_KEPT=y" >> "$config.new"
[ -f "$kconfig" ] && mv "$config.new" "$config"
