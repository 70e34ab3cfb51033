"""Trains the plan of `npm run bench -- train` with PEFT. Usage: train_peft.py PLAN.json [--steps N]

PLAN.json: `base` (Hugging Face folder), `rank`, `alpha`, `targets`, `start` (PEFT folder with the first A and B),
`schedule` (a rate for each step), `clip` (global norm, or null), `betas`, `threads`, and `batches`, a step each:
`{rows, length, tokens, labels}`, tokens and labels flat. A label is the token that should follow its position, or -1; the
loss is the mean over labels. With `weights`, one for each position, it is the sum of weight * loss instead.
Prints a JSON line for each step, `{step, loss, seconds}`, and at the end `{peakBytes}`, the peak of resident memory.
"""

import argparse
import json
import os
import resource
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import PeftConfig, PeftModel
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("plan")
parser.add_argument("--steps", type=int, default=None)
options = parser.parse_args()
with open(options.plan) as file:
    plan = json.load(file)
torch.set_num_threads(plan["threads"])

base = AutoModelForCausalLM.from_pretrained(plan["base"], dtype=torch.float32)
config = PeftConfig.from_pretrained(plan["start"])
# graft writes adapters with the scale folded into B and an alpha of the rank; training needs the plan's.
config.r, config.lora_alpha, config.target_modules = plan["rank"], plan["alpha"], plan["targets"]
config.rank_pattern, config.alpha_pattern, config.use_rslora = {}, {}, False
config.lora_dropout, config.inference_mode = 0.0, False
model = PeftModel.from_pretrained(base, plan["start"], config=config, is_trainable=True)
model.train()
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=0.0, betas=tuple(plan["betas"]), eps=1e-8, weight_decay=0.0)


def loss_of(batch):
    tokens = torch.tensor(batch["tokens"]).view(batch["rows"], batch["length"])
    labels = torch.tensor(batch["labels"])
    labels[labels < 0] = -100
    logits = model(input_ids=tokens, use_cache=False).logits.flatten(0, 1)
    if "weights" not in batch:
        return cross_entropy(logits, labels)
    return (cross_entropy(logits, labels, reduction="none") * torch.tensor(batch["weights"])).sum()


for step, batch in enumerate(plan["batches"][: options.steps]):
    from_time = time.perf_counter()
    for group in optimizer.param_groups:
        group["lr"] = plan["schedule"][step]
    loss = loss_of(batch)
    loss.backward()
    if plan["clip"] is not None:
        torch.nn.utils.clip_grad_norm_(trained, plan["clip"])
    optimizer.step()
    optimizer.zero_grad()
    print(json.dumps({"step": step, "loss": loss.item(), "seconds": time.perf_counter() - from_time}), flush=True)
# Linux counts in KiB.
print(json.dumps({"peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
