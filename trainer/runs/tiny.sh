#!/bin/sh
# All stages on a tiny random model and 50-odd questions: shows that the trainer works, not that it learns.
# Leaves its artifact in $RUN/store, and asks it one question.
set -eu
cd "$(dirname "$0")/../.."
RUN="${RUN:-runs/tiny}"
rm -rf "$RUN"
mkdir -p "$RUN"
DATA=tests/data/squad-excerpt.json

python -m trainer tiny-base "$RUN/base" --data "$DATA"
python -m trainer prepare "$RUN" --data "$DATA" --base "$RUN/base" --held-out-share 0.3
# stopped half-way and resumed, as a long run would be
python -m trainer finetune "$RUN" --base "$RUN/base" --epochs 4 --batch-size 8 --stop-after 5
python -m trainer finetune "$RUN" --base "$RUN/base" --epochs 4 --batch-size 8
python -m trainer export "$RUN" --store "$RUN/store" --base "$RUN/base" --name tiny
python -m trainer export "$RUN" --store "$RUN/store" --base "$RUN/base" --name tiny-float --scheme none
python -m trainer skim "$RUN" --epochs 2 --batch-size 8
python -m trainer add-skimmer "$RUN" --store "$RUN/store" --model tiny
python -m trainer add-skimmer "$RUN" --store "$RUN/store" --model tiny-float
python -m trainer search "$RUN" --store "$RUN/store" --model tiny --evaluations 6 --questions 4 --input-drop 0.5
python -m trainer table "$RUN" --store "$RUN/store" --model tiny --questions 6
python -m trainer compare-float "$RUN" --store "$RUN/store" --model tiny --float-model tiny-float --questions 6
leeway models verify tiny --store "$RUN/store"
leeway evaluate --data "$DATA" --store "$RUN/store" --model tiny --limit 10
