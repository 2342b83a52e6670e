#!/bin/sh
# The real run: all-MiniLM-L6-v2 on SQuAD 1.1, then default@3; what came after it is in onward.sh.
#
#   TRAIN=squad-train-v1.1.json.gz DEV=squad-dev-v1.1.json.gz BASE=all-MiniLM-L6-v2 sh trainer/runs/full.sh
#
# TRAIN and BASE may be hub names (rajpurkar/squad, sentence-transformers/all-MiniLM-L6-v2).  Stopped at any
# point, the same command goes on.  Times are in trainer/README.md.
set -eu
cd "$(dirname "$0")/../.."
. trainer/runs/settings.sh
RUN="${RUN:-runs/full}"
EPOCHS="${EPOCHS:-1.25}"

[ -f "$RUN/features.npz" ] || python -m trainer prepare "$RUN" --data "$TRAIN" --base "$BASE" \
    --significance learned
[ -f "$RUN/weights.safetensors" ] || python -m trainer finetune "$RUN" --base "$BASE" --epochs "$EPOCHS"
[ -f "$RUN/longer/weights.safetensors" ] || python -m trainer finetune "$RUN" --base "$BASE" \
    --start "$RUN/weights.safetensors" --name longer --epochs 1 --learning-rate 1e-4 --seed 2
[ -f "$RUN/adapted/weights.safetensors" ] || python -m trainer adapt "$RUN" --base "$BASE" \
    --start "$RUN/longer/weights.safetensors" --epochs 0.3 --learning-rate 8e-5 --drop-probability 0.4 --random-passes 1 --seed 3
[ -f "$RUN/averaged/weights.safetensors" ] ||
    python -m trainer average "$RUN" --of . --of longer --of adapted
# default@3 has the weights of its step 1,292 of 1,575, where that run was cut off (trainer/LOG.md)
[ -f "$RUN/learned/weights.safetensors" ] || python -m trainer adapt "$RUN" --base "$BASE" \
    --start "$RUN/averaged/weights.safetensors" --name learned --epochs 0.6 --learning-rate 1e-4 --drop-probability 0.4 \
    --random-passes 1 --seed 5
python -m trainer average "$RUN" --of averaged --of learned --share 1 --share 2 --name final
[ -d "$RUN/store/float/1" ] || python -m trainer export "$RUN" --weights-of final \
    --store "$RUN/store" --base "$BASE" --name float --scheme none
[ -d "$RUN/store/draft/1" ] || python -m trainer export "$RUN" --weights-of final \
    --store "$RUN/store" --base "$BASE" --name draft \
    --calibration-drop 0.4 ${DEV:+--report-dev "$DEV"}
python -m trainer search "$RUN" --store "$RUN/store" --model draft --evaluations 150 --questions 300 \
    --exempt-tokens 0
python -m trainer table "$RUN" --store "$RUN/store" --model draft --candidates 20 --points 14 --questions 1500
python -m trainer compare-float "$RUN" --store "$RUN/store" --model draft --questions 1000
python -m trainer publish-table "$RUN" --store "$RUN/store" --model draft --target "$STORE" --name default
