# shellcheck shell=bash
# What all launch scripts and Slurm jobs share. Sourced, from anywhere.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
if [ -z "${PYTHON:-}" ]; then
    if [ -x "$root/.venv/bin/python" ]; then PYTHON=$root/.venv/bin/python; else PYTHON=python3; fi
fi

# usage FILE: the comment at the head of a script, as its help, and exit code 2
usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1" >&2
    exit 2
}

# show COMMAND ...: print a command, ready to paste. A terminal that takes nothing any more is no reason to stop.
show() {
    (printf '+' && printf ' %q' "$@" && printf '\n') >&2 2> /dev/null || true
}

# check_entry ENTRY: set entry to the module of a command, such as train_search of search; exit code 2 for what is none,
# which torchrun would try again and again
check_entry() {
    local entries
    entry=$1
    if [ "$entry" = search ]; then entry=train_search; fi
    entries=$(cd "$root/darts_hpc" && grep -l ' run_entry(' -- *.py | sed 's/\.py$//')
    # one line: grep would take several for as many names, any of which will do
    if [[ "$entry" == *$'\n'* ]] || ! grep -qxF -- "$entry" <<< "$entries"; then
        echo "error: no entry point ${1@Q}; choose from ${entries//$'\n'/, }" >&2
        exit 2
    fi
}

# check_count NAME VALUE LEAST MOST: exit code 2 for what is no whole number between these
check_count() {
    if ! [[ "$2" =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3 || 10#$2 > $4)); then
        echo "error: $1=${2@Q}: expected a whole number from $3 to $4" >&2
        exit 2
    fi
}

# processes_here: how many processes this node gets: PROCESSES, else one per GPU, else one
processes_here() {
    local gpus=0 visible
    if [ -n "${PROCESSES:-}" ]; then
        check_count PROCESSES "$PROCESSES" 1 4096
        echo "$PROCESSES"
        return
    fi
    if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
        read -ra visible <<< "${CUDA_VISIBLE_DEVICES//,/ }" # empty, or -1, it hides every GPU
        while ((gpus < ${#visible[@]})) && [ "${visible[gpus]}" != -1 ]; do gpus=$((gpus + 1)); done
    elif command -v nvidia-smi > /dev/null; then
        gpus=$(nvidia-smi --list-gpus 2> /dev/null | grep -c '^GPU') || gpus=0
    fi
    echo "$((gpus > 0 ? gpus : 1))"
}

check_count MAX_RESTARTS "${MAX_RESTARTS:-3}" 0 1000000
# shellcheck disable=SC2034 # the scripts that source this use it
torchrun=("$PYTHON" -m darts_hpc.distributed.torchrun --max-restarts="${MAX_RESTARTS:-3}")
