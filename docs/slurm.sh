#!/usr/bin/env bash
# A run on a Slurm allocation: a Ray cluster over its nodes, then the driver on the first of them.
#
#     sbatch --nodes=4 docs/slurm.sh --scale full -p engine ray
#
# Submit it in the checkout, which lies on a path that all nodes share, after `make setup` there. Arguments go to the driver. For GPUs: DEVICE=cuda sbatch --gpus-per-node=4 ...
#SBATCH --job-name=heal
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?is set by sbatch}"
bin=${HEAL_BIN:-.venv/bin}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 --nodelist="$first" hostname --ip-address)
address=${address%% *}
port=$((20000 + SLURM_JOB_ID % 20000)) # two jobs on one node do not meet
export RAY_ADDRESS="$address:$port" RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1
cores=${SLURM_CPUS_PER_TASK:-1}

trap 'jobs -p | xargs -r kill 2>/dev/null || true' EXIT # the cluster ends with the job, however that ends
srun --nodes=1 --ntasks=1 --nodelist="$first" \
  "$bin/ray" start --head --node-ip-address="$address" --port="$port" --num-cpus="$cores" --block &
if ((SLURM_NNODES > 1)); then
  others=$((SLURM_NNODES - 1))
  srun --nodes="$others" --ntasks="$others" --exclude="$first" \
    "$bin/ray" start --address="$RAY_ADDRESS" --num-cpus="$cores" --block &
fi

count='import ray; ray.init(log_to_driver=False, logging_level="error"); print(sum(n["Alive"] for n in ray.nodes()))'
for _ in $(seq 60); do
  up=$("$bin/python" -c "$count" 2>/dev/null || echo 0)
  if [[ $up == "$SLURM_NNODES" ]]; then break; fi
  sleep 2
done
if [[ $up != "$SLURM_NNODES" ]]; then
  echo "heal: $up of $SLURM_NNODES nodes joined the Ray cluster; see the log above" >&2
  exit 2
fi
"$bin/python" -m heal_lib.reproduce "$@"
