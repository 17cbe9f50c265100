#!/bin/sh
# Writes each of its arguments to a line of its own, in brackets.
for word in "$@"; do printf '<%s>\n' "$word"; done >>@DIR@/words
