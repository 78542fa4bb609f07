#!/usr/bin/env bash
# Run an entry point on several nodes without a scheduler: the same command on each node, at about the same time.
#     NODES=2 HEAD=host1 launch/multinode.sh ENTRY [FLAG ...]
# Environment: NODES (how many), HEAD (the node where all meet), PORT (29400), RUN (a name of this launch, if two run at
# once), PROCESSES (per node; one per GPU), MAX_RESTARTS (3), NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME (network interface).
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"
if [ $# = 0 ] || [ "$1" = -h ] || [ "$1" = --help ]; then usage "$0"; fi
if [ -z "${NODES:-}" ] || [ -z "${HEAD:-}" ]; then
    echo "error: NODES and HEAD are not set; as in: NODES=2 HEAD=host1 launch/multinode.sh $*" >&2
    exit 2
fi
check_count NODES "$NODES" 1 100000
check_count PORT "${PORT:-29400}" 1 65535
check_entry "$1"
shift

processes=$(processes_here) # apart: else its refusal would not end this
command=("${torchrun[@]}" --nnodes="$NODES" --nproc-per-node="$processes" --rdzv-backend=c10d
    --rdzv-endpoint="$HEAD:${PORT:-29400}" --rdzv-id="${RUN:-darts_hpc}" -m "darts_hpc.$entry" "$@")
show "${command[@]}"
exec "${command[@]}"
