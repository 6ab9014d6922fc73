#!/usr/bin/env bash
# The main job, on a toy: a tiny Whisper with RANDOM weights and synthetic tones instead of speech.
# It shows that every step runs, and how; its word error rates mean nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
here=build/demo
rm -rf "$here"

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }

echo "Random weights and synthetic tones: this shows that the machinery runs, not how well models survive it."
say python -m tests.toys "$here"
say sottovoce compress "$here/whisper" --recipe gptq-w4 --data "$here/calibration.jsonl" --output "$here/out"
say sottovoce inspect "$here/out"
say sottovoce evaluate "$here/out" "$here/whisper" --data "$here/test.jsonl" --output "$here/runs/one"
say sottovoce compare "$here/runs/one" --baseline "$here/whisper"
say sottovoce sweep sweeps/quickstart.yaml --output "$here/runs/quickstart"
say sottovoce report "$here/runs/quickstart" --output "$here/report"
echo
echo "Again: random weights and synthetic tones, so the WER column means nothing. Point the same commands at your"
echo "model and your recordings: sottovoce sweep sweeps/quickstart.yaml --set models=[openai/whisper-tiny] \\"
echo "  --set data=[test.jsonl] --set calibration.data=calib.jsonl --output runs/mine"
