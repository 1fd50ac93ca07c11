#!/usr/bin/env bash
#SBATCH --job-name=mddes
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#
# One search on the nodes of a SLURM allocation: sbatch docs/cluster/slurm.sh search --dataset mnist --pixels 1 --out DIR
# What follows the file's name are arguments of mddes; DIR must be on storage that all nodes share. Two minutes before
# the time is up the driver stops cleanly; `sbatch docs/cluster/slurm.sh resume DIR/RUN` goes on.
set -euo pipefail

head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)" # sed reads on: nobody is left writing
port=$((20000 + SLURM_JOB_ID % 20000))
address="$head:$port"

# srun does not take over --cpus-per-task from sbatch (SLURM 22.05 and newer).
srun --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --nodelist="$head" \
    ray start --head --port="$port" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
for _ in $(seq 120); do # until the head answers
    if (exec 3<>"/dev/tcp/$head/$port") 2>/dev/null; then break; fi
    sleep 1
done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --nodes="$((SLURM_JOB_NUM_NODES - 1))" --ntasks="$((SLURM_JOB_NUM_NODES - 1))" \
        --cpus-per-task="$SLURM_CPUS_PER_TASK" --exclude="$head" \
        ray start --address="$address" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
fi

driver=
trap '[ -z "$driver" ] || kill -TERM "$driver"' TERM
mddes "$@" --ray-address "$address" &
driver=$!
status=0
wait "$driver" || status=$?
if [ "$status" -gt 128 ]; then # perhaps the wait ended with the signal, and not with the driver
    status=0
    wait "$driver" || status=$?
fi
exit "$status"
