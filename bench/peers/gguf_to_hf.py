"""Writes a GGUF base as a Hugging Face folder in float32. Usage: gguf_to_hf.py FILE.gguf FOLDER"""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

source, target = sys.argv[1:3]
folder, file = os.path.split(os.path.abspath(source))
read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
config = read.config
if hasattr(config, "quantization_config"):
    del config.quantization_config
# A model read from GGUF refuses to be saved; a new one with its weights does not.
model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
model.load_state_dict(read.state_dict())
model.generation_config = read.generation_config
model.save_pretrained(target)
AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(target)
