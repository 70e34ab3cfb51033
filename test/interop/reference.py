"""What transformers and PEFT say to the adapters that graft read and wrote.

    python reference.py HF OUT

Per adapter in OUT the truth is the base with scale * B A added to its weights, by this script's own arithmetic in float64.
Against it: `export/`, the PEFT folder that graft wrote, in PEFT, in float32 and in float64 (where the model still rounds
to float32 in its norms); the source itself in PEFT, where it is a PEFT folder; and `tokens.json`, what each engine answered
greedily: a token is right when it is the truth's likeliest behind the same tokens. Prints one JSON line an adapter.
"""
import json, os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
import peft, torch, transformers
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

HF, OUT = sys.argv[1:3]
#: Logits of two tokens this close may come out in the other order elsewhere.
TIE = 1e-3
PROMPTS = json.load(open(f"{OUT}/prompts.json"))
MODELS = {dtype: AutoModelForCausalLM.from_pretrained(HF, dtype=dtype).eval() for dtype in (torch.float32, torch.float64)}


@torch.no_grad()
def logits(model, tokens):
    return model(torch.tensor([tokens])).logits[0].double()


class Merged:
    """The base with a delta in its weights, for as long as the `with` lasts."""

    def __init__(self, folder, dtype):
        self.truth, self.scales = load_file(f"{folder}/truth.safetensors"), json.load(open(f"{folder}/truth.json"))["scales"]
        self.model, self.saved = MODELS[dtype], {}

    def __enter__(self):
        for name, scale in self.scales.items():
            weight = self.model.get_submodule(name).weight
            self.saved[name] = weight.data
            delta = scale * (self.truth[f"{name}.b"] @ self.truth[f"{name}.a"])
            weight.data = (weight.data.double() + delta).to(weight.dtype)
        return self.model

    def __exit__(self, *_):
        for name, data in self.saved.items():
            self.model.get_submodule(name).weight.data = data


def peft_logits(folder, dtype):
    model = PeftModel.from_pretrained(MODELS[dtype], folder).to(dtype).eval()
    rows = [logits(model, tokens) for tokens in PROMPTS]
    MODELS[dtype] = model.unload()
    return rows


def largest(rows, others):
    return max((a - b).abs().max().item() for a, b in zip(rows, others))


def check_tokens(model, answers):
    """@returns counts over all prompts, and the first wrong token."""
    right = ties = 0
    wrong = None
    for prompt, answer in zip(PROMPTS, answers):
        rows = logits(model, prompt + answer)[len(prompt) - 1:-1]
        for at, (row, token) in enumerate(zip(rows, answer)):
            behind = (row.max() - row[token]).item()
            right += behind == 0
            ties += 0 < behind < TIE
            if behind >= TIE and wrong is None:
                wrong = {"prompt": PROMPTS.index(prompt), "token": at, "logits_behind": behind}
    return {"tokens": sum(map(len, answers)), "right": right, "ties": ties, "wrong": wrong}


BASE_ROWS = [logits(MODELS[torch.float32], tokens) for tokens in PROMPTS]
print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}), flush=True)
for name in sorted(os.listdir(OUT)):
    folder = f"{OUT}/{name}"
    if not os.path.exists(f"{folder}/export/adapter_config.json"):
        continue
    truth = json.load(open(f"{folder}/truth.json"))
    result = {"adapter": name, "format": truth["format"]}
    merged = {}
    for dtype, key in ((torch.float32, "f32"), (torch.float64, "f64")):
        with Merged(folder, dtype) as model:
            rows = merged[key] = [logits(model, tokens) for tokens in PROMPTS]
            if dtype == torch.float32:
                result["effect"] = largest(rows, BASE_ROWS)
                answers = f"{folder}/tokens.json"
                for engine, tokens in (json.load(open(answers)) if os.path.exists(answers) else {}).items():
                    result[engine] = check_tokens(model, tokens)
        result[key] = largest(rows, peft_logits(f"{folder}/export", dtype))
        if truth["format"] == "peft":
            result[f"source_{key}"] = largest(rows, peft_logits(folder, dtype))
    # No adapter's file is read here: how far float32 alone moves the truth.
    result["noise"] = largest(merged["f32"], merged["f64"])
    print(json.dumps(result), flush=True)
