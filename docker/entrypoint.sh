#!/bin/sh
# Runs a command in a container: the one writable volume is made ready first, or refused in one clear line.
set -eu
if ! mkdir -p "$HOME" "$TMPDIR" 2>/dev/null || ! [ -w "$TMPDIR" ]; then
    echo "error: /data cannot be written by uid $(id -u); give it a volume that belongs to this user" >&2
    exit 2
fi
exec "$@"
