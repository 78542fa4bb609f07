#!/usr/bin/env bash
# A real Slurm with several virtual nodes on one machine, without systemd and without touching the machine:
# slurm_cluster.py runs this as the first process of namespaces of its own (processes, network, mounts, names), so that
# two clusters can't meet, and the kernel takes everything away when this process ends. It ends when its stdin closes, as
# when its owner is killed.
#   cluster.sh FOLDER NODES CPUS GPUS     FOLDER: a short path, because it holds sockets; it is filled here
set -euo pipefail
folder=$1 nodes=$2 cpus=$3 gpus=$4
here=$(cd "$(dirname "$0")" && pwd)
mount -t proc proc /proc
hostname controller
ip link set lo up

# Names: the same on every node, and only here.
{
    cat /etc/hosts
    echo "10.77.0.1 controller"
    for i in $(seq "$nodes"); do echo "10.77.0.$((10 + i)) node$i"; done
} > "$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts

# A switch, to which node.sh plugs each node.
ip link add switch type bridge
ip addr add 10.77.0.1/24 dev switch
ip link set switch up

# GPUs that are copies of /dev/null: without cgroups Slurm only counts them, and sets CUDA_VISIBLE_DEVICES.
for ((i = 0; i < gpus; i++)); do mknod "$folder/gpu$i" c 1 3; done
if ((gpus > 0)); then echo "NodeName=node[1-$nodes] Name=gpu File=$folder/gpu[0-$((gpus - 1))]" > "$folder/gres.conf"; fi

{
    cat << CONF
ClusterName=test
SlurmctldHost=controller(10.77.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
CredType=cred/munge
# cred_expire is also how long a requeued job waits before it may start again (120 s by default)
AuthInfo=socket=$folder/munge.sock,cred_expire=10
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
JobRequeue=1
SlurmdTimeout=10
MessageTimeout=10
KillWait=5
MinJobAge=3600
MailProg=/bin/true
CONF
    for i in $(seq "$nodes"); do
        echo "NodeName=node$i NodeAddr=10.77.0.$((10 + i)) CPUs=$cpus RealMemory=4000$( ((gpus > 0)) && echo " Gres=gpu:$gpus")"
    done
    echo "PartitionName=main Nodes=node[1-$nodes] Default=YES MaxTime=INFINITE DefaultTime=30 State=UP"
} > "$folder/slurm.conf"
export SLURM_CONF=$folder/slurm.conf
mkdir "$folder/state"

head -c 1024 /dev/urandom > "$folder/munge.key"
chmod 600 "$folder/munge.key"
munged -F --force -S "$folder/munge.sock" --key-file="$folder/munge.key" --pid-file="$folder/munge.pid" \
    --log-file="$folder/munge.log" --seed-file="$folder/munge.seed" --num-threads=2 2>> "$folder/munge.log" &
for _ in $(seq 2400); do if [ -S "$folder/munge.sock" ]; then break; fi; sleep .05; done
slurmctld -D < /dev/null >> "$folder/slurmctld.log" 2>&1 &
for i in $(seq "$nodes"); do "$here/node.sh" on "$folder" "$i"; done

while read -r _; do :; done # until stdin closes
