#!/usr/bin/env bash
# Run an entry point under MPI, with Open MPI, MPICH or what is built on it; needs mpi4py (pip install 'darts_hpc[mpi]').
#     launch/mpi.sh PROCESSES ENTRY [FLAG ...]         such as: launch/mpi.sh 4 train_search --unrolled
# Environment: MPIRUN (mpirun), MPIRUN_FLAGS (hosts and the like, as in "--hostfile hosts"), PYTHON.
# MPI restarts nothing: give --save FOLDER/ --resume auto, and start it again.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"
if [ $# -lt 2 ]; then usage "$0"; fi
check_count PROCESSES "$1" 1 1000000
check_entry "$2"
processes=$1
shift 2

mpirun=${MPIRUN:-mpirun}
command -v "$mpirun" > /dev/null || { echo "error: no $mpirun here; load an MPI module, or name it with MPIRUN" >&2; exit 2; }
read -ra flags <<< "${MPIRUN_FLAGS:-}"
version=$("$mpirun" --version 2>&1 || true)
if [[ $version == *"Open MPI"* ]]; then
    # It would tie each process to one core, with all its threads, and give remote ones none of this environment.
    flags+=(--bind-to none -x PYTHONPATH)
fi

command=("$mpirun" -n "$processes" ${flags[@]+"${flags[@]}"} "$PYTHON" -m "darts_hpc.$entry" "$@")
show "${command[@]}"
exec "${command[@]}"
