#!/usr/bin/env bash
# graft beside vLLM's CPU build and llama.cpp's server, in one run on this machine: sets the peers up where they are
# missing, then `npm run bench -- compare` with the flags given here. `--write` updates README.md and docs/compare.svg.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -d node_modules ] || npm ci
export PEERS=${PEERS:-$HOME/.cache/graft-peers}
bench/peers/setup.sh
npm run --silent bench -- compare "$@"
case " $* " in *' --write '*) npx prettier --write README.md >/dev/null ;; esac
