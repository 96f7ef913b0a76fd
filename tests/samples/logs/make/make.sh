#!/bin/bash
# Makes every sample again, by really running its framework, with stdout and stderr in one pipe as in a container.
# usage: make.sh PYTHON [NAME...]   PYTHON has torch, tqdm, lightning, transformers, accelerate, tensorboard,
#        tensorflow, tf_keras, fastai and mlxtend; in OUT (default: the folder above) the logs are written.
set -u
python=$1; shift
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$(dirname "$here")}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
export PYTHONPATH=$here CUDA_VISIBLE_DEVICES=-1 TF_CPP_MIN_LOG_LEVEL=3 PYTHONUTF8=1 OMP_NUM_THREADS=1 COLUMNS=100
names=" $* "
sample() {  # NAME COMMAND...
  local name=$1; shift
  if [ "$names" != "  " ] && [[ $names != *" $name "* ]]; then return; fi
  echo "$name" >&2
  rm -rf "$work/run" && mkdir "$work/run"
  # Paths of the machine that made a sample are no part of it.
  (cd "$work/run" && nice -n 10 "$@" 2>&1 | sed -e "s#$work/run#/work#g; s#$here#/work#g; s#$(dirname "$(dirname "$(command -v "$python")")")#/usr/local#g" > "$out/$name.log")
  if [ -n "${KEEP:-}" ]; then mkdir -p "$KEEP/$name" && cp -r "$work/run/." "$KEEP/$name/"; fi
}
py() { local name=$1 script=$2; shift 2; sample "$name" "$python" -u "$here/$script.py" "$@"; }

py pytorch-example pytorch_example
py lr-zero pytorch_example --lr 0
py gradient-ascent pytorch_example --lr 0.01 --ascent
py shuffled-labels pytorch_example --shuffled --lr 0.01 --epochs 3
py diverged pytorch_example --blow-up-after 30
py lr-50 pytorch_example --lr 50
py nan pytorch_example --nan-after 30
py printed-once pytorch_example --print once
py no-loss pytorch_example --print nothing
py only-validation pytorch_example --print validation --epochs 8
for style in epochs tutorial logging json tensor carriage parts chinese chinese-average gbk table; do
  py "prints-$style" prints "$style"
done
py tqdm tqdm_postfix
py lightning-tqdm lightning_fit tqdm
py lightning-rich lightning_fit rich
py hf-trainer hf_trainer
py keras3-verbose1 keras_fit 3 1
py keras3-verbose1-2-epochs keras_fit 3 1 2
py keras3-verbose2 keras_fit 3 2
py keras2-verbose1 keras_fit 2 1
py keras2-verbose2 keras_fit 2 2
py fastai fastai_fit
sample forged sh "$here/forged.sh"
