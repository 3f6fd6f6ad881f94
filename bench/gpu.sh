#!/usr/bin/env bash
# What a GPU machine is to show, in stages of under 9 minutes: bash bench/gpu.sh STAGE...   (none: lists them)
# It runs from a checkout and needs no network. PYTHON is a Python with torch for CUDA; WHEELS, a folder of wheels that it
# lacks, such as pydantic and submitit; FER2013_CSV, FER2013's CSV, else synthetic faces are drawn; OUT, where logs go.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-runs/gpu}
mkdir -p "$OUT"
OUT=$(realpath "$OUT")
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD:$OUT/site" FER_DDP_CACHE="$OUT/cache"
DATA="$OUT/data"

setup() {
  if [ -n "${WHEELS:-}" ] && [ ! -e "$OUT/site" ]; then
    "$PYTHON" -m pip install -q --no-index --no-deps --target "$OUT/site" "$WHEELS"/*.whl || exit 1
  fi
  if [ ! -e "$DATA" ]; then
    if [ -n "${FER2013_CSV:-}" ]; then
      "$PYTHON" -m shards pack "$FER2013_CSV" "$DATA" || exit 1
    else
      "$PYTHON" -m shards fake "$DATA" --train 28709 --val 3589 --test 3589 || exit 1
    fi
  fi
  nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit,memory.used --format=csv || exit 1
  "$PYTHON" -c 'import torch; print("torch", torch.__version__, "CUDA", torch.version.cuda, "cuDNN", torch.backends.cudnn.version())'
}

train() { # train NAME RECIPE [KEY=VALUE ...]: the log is $OUT/NAME.log
  local name=$1 recipe=$2
  shift 2
  "$PYTHON" -m fer_ddp train "jobs/$recipe.yaml" data.path="$DATA" run="$OUT/runs/$name" wandb.mode=disabled "$@" >>"$OUT/$name.log" 2>&1
}

tests() { # 2 minutes: the same bits as on a CPU, and the CUDA graph against single kernels
  timeout 300 make test-gpu PYTHON="$PYTHON"
}

smoke() { # 3 minutes: two epochs of model4 in each precision; without a graph it fails
  local precision failed=0
  for precision in bf16 fp16 float32; do
    timeout 150 "$PYTHON" -m fer_ddp train jobs/model4.yaml data.path="$DATA" run="$OUT/runs/smoke-$precision" \
      wandb.mode=disabled epochs=2 precision=$precision >"$OUT/smoke-$precision.log" 2>&1 || failed=1
    tail -n 3 "$OUT/smoke-$precision.log"
    cat "$OUT/runs/smoke-$precision/timing.jsonl"
    grep "CUDA graph disabled" "$OUT/smoke-$precision.log" && failed=1
  done
  return $failed
}

nccl() { # 1 minute: NCCL's set-up with the GPUs that there are
  timeout 120 "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node "$(nvidia-smi -L | wc -l)" -m fer_ddp train \
    jobs/model4.yaml data.path="$DATA" run="$OUT/runs/nccl" wandb.mode=disabled epochs=1 2>&1 | tail -n 3
}

same() { # 3 minutes: an interrupted and resumed run, and a second one, end in the same bytes
  local file other failed=0 seconds pid
  train same-a model4 epochs=3 || return 1
  train same-b model4 epochs=3 || return 1
  for seconds in 8 9 10; do
    "$PYTHON" -m fer_ddp train jobs/model4.yaml data.path="$DATA" run="$OUT/runs/same-c" wandb.mode=disabled epochs=3 >>"$OUT/same-c.log" 2>&1 &
    pid=$!
    sleep "$seconds"
    kill -TERM $pid 2>/dev/null
    wait $pid && break
  done
  train same-c model4 epochs=3 || return 1
  for other in b c; do
    for file in checkpoints/last.safetensors metrics.jsonl; do
      cmp "$OUT/runs/same-a/$file" "$OUT/runs/same-$other/$file" && echo "a and $other: $file is the same" || failed=1
    done
  done
  return $failed
}

bench() { # 5 minutes: the training step against the usual notebook and plain PyTorch
  timeout 500 "$PYTHON" -m bench --device cuda --json "$OUT/bench.json"
}

seeds() { # up to 9 minutes: three seeds of RECIPE (model4) at once; call it again to resume them
  local recipe=${RECIPE:-model4} seed pids=()
  for seed in 0 1 2; do
    OMP_NUM_THREADS=4 timeout --signal=TERM --kill-after=40 500 "$PYTHON" -m fer_ddp train "jobs/$recipe.yaml" \
      data.path="$DATA" run="$OUT/runs/$recipe-$seed" wandb.mode=disabled seed=$seed >"$OUT/$recipe-$seed.log" 2>&1 &
    pids+=($!)
  done
  wait "${pids[@]}"
  tail -qn 1 "$OUT/runs/$recipe"-?/metrics.jsonl "$OUT/runs/$recipe"-?/timing.jsonl
}

if [ $# -eq 0 ]; then
  grep -E '^[a-z]+\(\) \{ # [0-9u]' "$0" | sed 's/() { #/:/'
  exit 0
fi
setup
failed=0
for stage in "$@"; do
  echo "=== $stage"
  SECONDS=0
  "$stage" || { failed=1 && echo "=== $stage failed"; }
  echo "=== $stage took $SECONDS s"
done
exit $failed
