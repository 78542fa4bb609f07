# shellcheck shell=bash
# The one file a cluster edits. Every job reads it on its first node; account and partition must be known before, to
# sbatch, so read it in your shell too (or in ~/.bashrc):    . slurm/site.sh
# Where the default partition does, nothing needs to be set.

# export SBATCH_ACCOUNT=my_project
# export SBATCH_PARTITION=gpu

# Python: the checkout's .venv where there is one, else python3.
# module load cuda python
# export PYTHON=/path/to/venv/bin/python

# Network interface between nodes, where the default one is slow or wrong (ip -brief address).
# export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0

# A disk of each node, for STAGE=/path/to/imagenet sbatch slurm/imagenet.sbatch.
export NODE_DISK=${NODE_DISK:-${SLURM_TMPDIR:-/tmp/$(id -un)}}
