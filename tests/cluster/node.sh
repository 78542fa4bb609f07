#!/usr/bin/env bash
# Power of one virtual node, run inside the cluster's namespaces:
#   node.sh on  FOLDER I    start node I: namespaces of its own, plugged to the switch, with slurmd
#   node.sh off FOLDER I    power loss: its link goes silent, then every process of it is killed at once
#   node.sh run FOLDER I    (by `on`) the node's first process
set -euo pipefail
verb=$1 folder=$2 i=$3
self=$(cd "$(dirname "$0")" && pwd)/node.sh
case $verb in
    on)
        mkdir -p "$folder/spool-node$i" "$folder/disk-node$i" "$folder/disk"
        unshare --pid --net --mount --uts --fork --kill-child "$self" run "$folder" "$i" < /dev/null >> "$folder/slurmd-node$i.log" 2>&1 &
        echo $! > "$folder/node$i.pid"
        for _ in $(seq 6000); do
            init=$(cat "/proc/$!/task/$!/children")
            if [ -n "$init" ]; then break; fi
            sleep .02
        done
        # The same hardware address each time, as a machine has: else its peers look for the old one for a while.
        ip link add "node$i" type veth peer name eth0 address "$(printf '02:00:00:00:00:%02x' "$i")" netns "${init% }"
        ip link set "node$i" master switch up
        ;;
    off)
        ip link set "node$i" down
        kill -KILL "$(cat "$folder/node$i.pid")"
        ip link del "node$i" 2> /dev/null || true # the kernel takes it away with the node, sooner or later
        ;;
    run)
        mount -t proc proc /proc
        mount --bind "$folder/disk-node$i" "$folder/disk" # the node's own disk: elsewhere under the same name
        hostname "node$i"
        for _ in $(seq 6000); do if ip link show eth0 > /dev/null 2>&1; then break; fi; sleep .02; done
        ip link set lo up
        ip addr add "10.77.0.$((10 + i))/24" dev eth0
        ip link set eth0 up
        slurmd -D -N "node$i" &
        while :; do wait; sleep 1; done # the first process reaps orphans, and outlives a slurmd that is killed
        ;;
    *)
        sed -n '2,5s/^# *//p' "$self"
        exit 2
        ;;
esac
