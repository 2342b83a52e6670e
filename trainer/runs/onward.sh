#!/bin/sh
# From one default model to the next, where nothing is left of the runs but the published artifacts: default@3 was adapted
# further with a bilinear significance, and a quarter of default@2 mixed in, which made the weights of default@6 (and of
# default@5 and default@4, whose tables were searched without a skimmer and without exempt tokens; they are in the history).
# Those adapted to what a skimmer leaves, and mixed half and half with what they were before, are default@8 (and default@7, whose
# table was made by fewer questions). Its search was begun with the one before; this is one from nothing (LOG.md).
#
#   TRAIN=squad-train-v1.1.json.gz DEV=squad-dev-v1.1.json.gz BASE=all-MiniLM-L6-v2 sh trainer/runs/onward.sh
#
# As of full.sh: hub names will do, stopped at any point the same command goes on, and the times are in trainer/README.md.
set -eu
cd "$(dirname "$0")/../.."
. trainer/runs/settings.sh
RUN="${RUN:-runs/onward}"
START="${START:-default@3}"
MIXED="${MIXED:-default@2}"
EPOCHS="${EPOCHS:-0.18}"
SKIMMING_EPOCHS="${SKIMMING_EPOCHS:-0.3}"
ENGINE="${ENGINE:-native}"

[ -f "$RUN/features.npz" ] || python -m trainer prepare "$RUN" --data "$TRAIN" --base "$BASE" --significance bilinear
[ -f "$RUN/restored/weights.safetensors" ] || python -m trainer restore "$RUN" --store "$STORE" --model "$START"
[ -f "$RUN/restored-2/weights.safetensors" ] ||
    python -m trainer restore "$RUN" --store "$STORE" --model "$MIXED" --name restored-2
[ -f "$RUN/adapted/weights.safetensors" ] || python -m trainer adapt "$RUN" --base "$BASE" \
    --start "$RUN/restored/weights.safetensors" --epochs "$EPOCHS" --learning-rate 1e-4 --drop-probability 0.4 \
    --random-passes 1 --seed 7
python -m trainer average "$RUN" --of adapted --of restored-2 --share 3 --share 1 --name final
[ -f "$RUN/skimmer/weights.safetensors" ] || python -m trainer skim "$RUN" --start "$RUN/final/weights.safetensors"
[ -f "$RUN/skimming/weights.safetensors" ] || python -m trainer adapt "$RUN" --base "$BASE" --name skimming \
    --start "$RUN/final/weights.safetensors" --skimmer "$RUN/skimmer/weights.safetensors" --input-drop 0.7 \
    --epochs "$SKIMMING_EPOCHS" --learning-rate 8e-5 --drop-probability 0.2 --random-passes 1 --seed 12
python -m trainer average "$RUN" --of skimming --of final --name mixed
[ -d "$RUN/store/float/1" ] || python -m trainer export "$RUN" --weights-of mixed \
    --store "$RUN/store" --base "$BASE" --name float --scheme none
[ -d "$RUN/store/draft/1" ] || python -m trainer export "$RUN" --weights-of mixed \
    --store "$RUN/store" --base "$BASE" --name draft \
    --calibration-drop 0.4 --engine "$ENGINE"
for model in draft float; do
    [ -d "$RUN/store/$model/2" ] || python -m trainer add-skimmer "$RUN" --store "$RUN/store" --model "$model"
done
python -m trainer search "$RUN" --store "$RUN/store" --model draft --evaluations 200 --questions 400 --engine "$ENGINE" \
    --exempt-tokens 16 --input-drop 0.7
python -m trainer table "$RUN" --store "$RUN/store" --model draft --candidates 46 --points 15 \
    --engine "$ENGINE" ${DEV:+--report-dev "$DEV"}
python -m trainer compare-float "$RUN" --store "$RUN/store" --model draft \
    --engine "$ENGINE" --float-engine openvino
python -m trainer publish-table "$RUN" --store "$RUN/store" --model draft --target "$STORE" --name default
