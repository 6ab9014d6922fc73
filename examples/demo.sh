#!/usr/bin/env bash
# The whole job, offline: the built-in models compressed seven ways, one of them trained again, measured, in a table;
# one of them exported to ONNX Runtime and timed.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
here=build/demo
rm -rf "$here"

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }

say sottovoce compress builtin:whisper --recipe gptq-w4 --data builtin:calibration --output "$here/w4"
say sottovoce inspect "$here/w4"
say sottovoce export "$here/w4" --to onnx --output "$here/phone"
say sottovoce bench builtin:whisper "$here/w4" "$here/phone" --threads 1 --rounds 3
say sottovoce sweep sweeps/quickstart.yaml --output "$here/runs"
say sottovoce report "$here/runs" --output "$here/report"
echo
echo "The page is $here/report/report.html. The models know 248 words in synthetic voices: they are for trying this."
echo "Real checkpoints under the same recipes, measured before (docs/results.md says how):"
grep -E '^### |^\| (Quantization|-{3}|(- \| )+[0-9.]+ \||rtn 8-bit channel \||gptq 4-bit g32 [a-z]+ \| -)' docs/results.md
echo "Point the same commands at your model and your recordings:"
echo "  sottovoce sweep sweeps/quickstart.yaml --set models=[openai/whisper-tiny] --set data=[test.jsonl] \\"
echo "    --set calibration.data=calib.jsonl --set train=train.jsonl --output runs/mine"
