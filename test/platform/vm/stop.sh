#!/usr/bin/env bash
# Ends a machine that start.sh started, and removes its run directory: stop.sh RUN_DIRECTORY
set -euo pipefail

[[ $# == 1 ]] || { echo "usage: stop.sh RUN_DIRECTORY" >&2; exit 2; }
[[ -d $1 ]] || exit 0 # stopped before
run=$(cd -- "$1" && pwd -P)
# It is going to be removed with all it holds: make sure that start.sh made it.
[[ -f $run/machine.json && -f $run/key ]] || { echo "stop.sh: $run is no run directory" >&2; exit 1; }

pid=$(sed -n 's/^{"pid":\([0-9]*\),.*/\1/p' "$run/machine.json")
# Process ids are used again: end it only while its command line names this run.
is_ours() { [[ -n $pid ]] && tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$run/"; }

ssh -F none -o "ControlPath=\"$run/ssh\"" -O exit root@127.0.0.1 2>/dev/null || true
if is_ours 2>/dev/null; then
  kill -TERM "$pid" 2>/dev/null || true
  for ((i = 0; i < 100; i++)); do
    is_ours 2>/dev/null || break
    sleep 0.1
  done
  ! is_ours 2>/dev/null || kill -KILL "$pid" 2>/dev/null || true
fi
rm -rf -- "$run"
