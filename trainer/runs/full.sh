#!/bin/sh
# The real run: all-MiniLM-L6-v2 on SQuAD 1.1, then the default model.
#
#   TRAIN=squad-train-v1.1.json.gz DEV=squad-dev-v1.1.json.gz BASE=all-MiniLM-L6-v2 sh trainer/runs/full.sh
#
# TRAIN and BASE may be hub names (rajpurkar/squad, sentence-transformers/all-MiniLM-L6-v2).  Stopped at any
# point, the same command goes on.  Times are in trainer/README.md.
set -eu
cd "$(dirname "$0")/../.."
RUN="${RUN:-runs/full}"
TRAIN="${TRAIN:-rajpurkar/squad}"
BASE="${BASE:-sentence-transformers/all-MiniLM-L6-v2}"
STORE="${STORE:-model_store/artifacts}"
EPOCHS="${EPOCHS:-1.25}"

# Activations of a training step are tens of megabytes each; glibc would map and unmap, and so zero, them every
# time.  Kept on the heap, in huge pages, a step takes 17% less time (trainer/LOG.md).
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1

[ -f "$RUN/features.npz" ] || python -m trainer prepare "$RUN" --data "$TRAIN" --base "$BASE"
[ -f "$RUN/weights.safetensors" ] || python -m trainer finetune "$RUN" --base "$BASE" --epochs "$EPOCHS"
python -m trainer export "$RUN" --store "$RUN/store" --base "$BASE" --name float --scheme none
python -m trainer export "$RUN" --store "$STORE" --base "$BASE" --name default ${DEV:+--report-dev "$DEV"}
