#!/bin/sh
# The steps of firmware_update.toml on a simulated flash: a folder with two slots.
#
#   flash/a, flash/b   the slots; an image is a text file with a line version=…
#   flash/active       the name of the slot that runs
#   flash/trial        the name of the slot that is tried, while it is
#
# firmware.conf beside this file may set FLASH (the folder) and RESTART (a
# command line that restarts the device).
set -eu

FLASH=/var/lib/firmware
RESTART="systemctl reboot"
conf=$(dirname "$0")/firmware.conf
[ ! -r "$conf" ] || . "$conf"

active() { cat "$FLASH/active"; }
unused() { if [ "$(active)" = a ]; then echo b; else echo a; fi; }
version() { sed -n 's/^version=//p' "$FLASH/$1"; }

# Replaces a file at once: a power cut leaves the old one or the new one.
put() {
    printf '%s\n' "$2" > "$FLASH/.$1"
    mv "$FLASH/.$1" "$FLASH/$1"
    sync
}

case $1 in
plan)
    [ "$(version "$(active)")" != "$2" ] || exit 3
    [ ! -e "$FLASH/busy" ] || exit 4
    ;;
install)
    slot=$(unused)
    case $2 in
    http://* | https://*) curl -fsS --max-time 1700 -o "$FLASH/.image" -- "$2" ;;
    *) cp -- "$2" "$FLASH/.image" ;;
    esac
    printf '%s  %s\n' "$3" "$FLASH/.image" | sha256sum -c - >&2
    mv "$FLASH/.image" "$FLASH/$slot"
    sync
    # What stands between the markers becomes part of the command's payload.
    printf ':::begin-tedge:::\n{"slot":"%s","previous":"%s"}\n:::end-tedge:::\n' \
        "$slot" "$(version "$(active)")"
    ;;
restart)
    put trial "$(unused)"
    exec $RESTART
    ;;
verify)
    slot=$(cat "$FLASH/trial")
    [ "$(version "$slot")" = "$2" ]
    # A device would check here that its services run and reach their peers.
    ! grep -q '^broken' "$FLASH/$slot"
    ;;
commit)
    # Also after a crash between the two: then there is no trial any more.
    [ ! -e "$FLASH/trial" ] || put active "$(cat "$FLASH/trial")"
    rm -f "$FLASH/trial"
    ;;
roll_back)
    rm -f "$FLASH/trial"
    ;;
*)
    echo "usage: $0 plan|install|restart|verify|commit|roll_back" >&2
    exit 2
    ;;
esac
