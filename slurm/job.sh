# shellcheck shell=bash
# What the jobs share: processes on every node, and how a job that must end asks to go on. Sourced from the checkout.

step=''
stopping=''
trap 'stopping=yes; (echo "stopping, to go on later" >&2) || true; pass_stop_on' USR1 TERM

# pass_stop_on: to every task of the step under way, as soon as Slurm knows it; srun itself would leave them to their fate
pass_stop_on() {
    while [ -n "$step" ] && kill -0 "$step" 2> /dev/null; do
        if scontrol show step "$SLURM_JOB_ID" 2> /dev/null | grep -q 'StepId=[^ ]*\.[0-9]'; then
            scancel --signal=USR1 "$SLURM_JOB_ID" || true
            break
        fi
        sleep 0.5
    done
}

# shellcheck source=slurm/site.sh
. slurm/site.sh
# shellcheck source=launch/common.sh
. launch/common.sh

head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# srun does not take it from sbatch. Where sbatch was not asked for it, a step gets all CPUs of the job by itself.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# each_node COMMAND ...: once on each node, to its end, which a signal to the job asks for
each_node() {
    local command=(srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" --ntasks-per-node=1 --kill-on-bad-exit=1 "$@")
    local code
    show "${command[@]}"
    "${command[@]}" &
    step=$!
    if [ -n "$stopping" ]; then pass_stop_on; fi # it came before there was a step
    while :; do
        code=0
        wait "$step" || code=$?
        if ! kill -0 "$step" 2> /dev/null; then break; fi # else only a signal came in
    done
    wait "$step" || code=$?
    step=''
    return "$code"
}

# requeue: queue the job again, unless it was cancelled, which is not to come back
requeue() {
    if [[ $(scontrol -o show job "$SLURM_JOB_ID") == *"JobState=RUNNING"* ]]; then
        show scontrol requeue "$SLURM_JOB_ID"
        scontrol requeue "$SLURM_JOB_ID" # ends this script at once
    fi
}

# stage_images SRC DEST: copy them to each node, to the end or to the signal before the time limit. Then, if a file was
# copied, the job is queued again, and goes on with the rest.
stage_images() {
    local started code=0
    started=$(date +%s)
    each_node "$PYTHON" -m darts_hpc.stage "$1" "$2" || code=$?
    if [ -n "$stopping" ]; then
        stopping='' # as far as the copying goes: what follows is no work to stop
        if [ -n "$(each_node find "$2" -type f ! -name '.*' -newermt "@$started" -print -quit)" ]; then requeue; fi
        code=1
    fi
    if [ "$code" != 0 ]; then exit "$code"; fi
}

# run_entry ENTRY FLAG ...: an entry point with one process for each GPU of the job (PROCESSES: for each node), to its end
# or to the signal before the time limit. Then the run saves and leaves a marker, if it made progress; with it the job is
# queued again, and goes on in the same run folder. Where the signal came before a step was done, as when torch was being
# imported, it is queued again once: a job without time for a step would come back for ever. Ends the job.
run_entry() {
    local entry=$1 code=0 marker=$PWD/slurm/logs/requeue-$SLURM_JOB_ID idle=$PWD/slurm/logs/idle-$SLURM_JOB_ID
    local processes=${PROCESSES:-${SLURM_GPUS_ON_NODE:-1}}
    check_count PROCESSES "$processes" 1 4096
    shift
    rm -f "$marker"
    export DARTS_HPC_REQUEUE_FILE=$marker
    each_node "${torchrun[@]}" --nnodes="$SLURM_NNODES" --nproc-per-node="$processes" \
        --rdzv-backend=c10d --rdzv-endpoint="$head_node:$((30000 + SLURM_JOB_ID % 2500))" \
        --rdzv-id="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" -m "darts_hpc.$entry" "$@" || code=$?
    if [ -e "$marker" ]; then
        rm -f "$idle"
        cat "$marker" || true
        requeue
    elif [ -n "$stopping" ] && ((code > 128)) && [ ! -e "$idle" ]; then
        touch "$idle"
        requeue
    else
        rm -f "$idle"
    fi
    exit "$code"
}
