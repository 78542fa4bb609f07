#!/usr/bin/env bash
# Run an entry point on this machine, one process for each GPU:
#     launch/local.sh ENTRY [FLAG ...]                 such as: launch/local.sh train_search --unrolled
# Environment: PROCESSES (one per GPU; one without), MAX_RESTARTS (3: a killed process costs the steps since the last
# checkpoint), PYTHON (the checkout's .venv, else python3).
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"
if [ $# = 0 ] || [ "$1" = -h ] || [ "$1" = --help ]; then usage "$0"; fi
check_entry "$1"
shift

processes=$(processes_here) # apart: else its refusal would not end this
command=("${torchrun[@]}" --standalone --nproc-per-node="$processes" -m "darts_hpc.$entry" "$@")
show "${command[@]}"
exec "${command[@]}"
