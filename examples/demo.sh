#!/bin/sh
# First the model that comes along; then the main job on the embedded corpus: tokenizer -> prepared dataset ->
# pretraining -> fill-mask. Offline. Every line below is a command that does the same on a corpus of yours.
set -eu
BIN=${BIN:-.venv/bin}
RUN=${RUN:-build/demo}
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
SENTENCE='天气预报说今天的天[MASK]很好，那么我[MASK]一起去公园玩吧！'

step() { printf '\n== %s\n' "$1"; shift; printf '   %s\n' "$*"; "$@"; }

step "the small Chinese model that comes with the package" \
    "$BIN/flashquad" fill-mask "今天的天[MASK]很好" "用户可以在终[MASK]中运行这个命令。" "本法自公布之日起[MASK]行。" "$SENTENCE"
step "1/4 a character vocabulary from the embedded corpus" \
    "$BIN/flashquad" tokenizer --output "$RUN/tokenizer" --vocab-size 4000 --overwrite
step "2/4 text -> tokens with the starts of words" \
    "$BIN/flashquad" prepare --tokenizer "$RUN/tokenizer" --output "$RUN/dataset" --max-length 128 --overwrite
step "3/4 pretraining with whole-word masking" \
    "$BIN/flashquad" pretrain --recipe demo --train_dir "$RUN/dataset" --output_dir "$RUN/model" --overwrite_output_dir
step "4/4 fill the masks" \
    "$BIN/flashquad" fill-mask "$RUN/model" "$SENTENCE"
