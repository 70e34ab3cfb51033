"""Adapters as other tools write them, over the shapes of a Llama in HF, each with the delta that it must mean.

    python make_adapters.py HF OUT [LLAMA]

HF: folder of the base; LLAMA: source folder of llama.cpp, for its own converter. Every folder in OUT holds an adapter's
files, `truth.safetensors` (A `[rank, in]` and B `[out, rank]` in float64, as rounded by the file's type) and `truth.json`:
the format, the names of its files, and scale by module, as the training code computes it. `prompts.json` has the prompts'
token ids. Nothing here calls a reader.
"""
import json, math, os, subprocess, sys
os.environ["HF_HUB_OFFLINE"] = "1"
import gguf, mlx.core as mx, torch
from lycoris import LycorisNetwork, create_lycoris
from mlx.utils import tree_flatten
from mlx_lm.models.llama import Model, ModelArgs
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import save_config
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

HF, OUT = sys.argv[1:3]
LLAMA = sys.argv[3] if len(sys.argv) > 3 else None
CONFIG = json.load(open(f"{HF}/config.json"))
BASE_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
HIDDEN, INNER, LAYERS = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["num_hidden_layers"]
HEADS, KV_HEADS = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
KV = HIDDEN // HEADS * KV_HEADS
#: in, out
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (HIDDEN, KV), "self_attn.v_proj": (HIDDEN, KV),
    "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (HIDDEN, INNER), "mlp.up_proj": (HIDDEN, INNER),
    "mlp.down_proj": (INNER, HIDDEN),
}
ALL = list(SHAPES)
GGUF_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
#: The delta's Frobenius norm, of random A and B, is about this share of sqrt(out): large enough to change every answer.
STRENGTH = 0.12

PROMPTS = [
    "Name three fruits.", "Why is the sky blue?", "Write a short poem about a river.", "What does a compiler do?",
]


def module(layer, target):
    return f"model.layers.{layer}.{target}"


def target_of(name):
    return name.split(".", 3)[3]


def random_pairs(ranks, scales, dtype, seed):
    """A and B by module, in `dtype`. A has deviation 1/sqrt(in); B makes up for the scale, so that no adapter is louder."""
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, rank in ranks.items():
        inputs, outputs = SHAPES[target_of(name)]
        a = torch.randn(rank, inputs, generator=generator, dtype=torch.float64) / math.sqrt(inputs)
        b = torch.randn(outputs, rank, generator=generator, dtype=torch.float64) * STRENGTH / (scales[name] * math.sqrt(rank))
        pairs[name] = (a.to(dtype), b.to(dtype))
    return pairs


def write(name, format, files, scales, pairs, members=None):
    """`files`: weights' name, configuration's name or None; `members`: scale by adapter, of a sum."""
    folder = f"{OUT}/{name}"
    truth = {}
    for key, (a, b) in pairs.items():
        truth[f"{key}.a"], truth[f"{key}.b"] = a.double().contiguous(), b.double().contiguous()
    save_file(truth, f"{folder}/truth.safetensors")
    about = {"format": format, "weights": files[0], "config": files[1], "scales": scales, "members": members}
    json.dump(about, open(f"{folder}/truth.json", "w"))
    print(f"{name}: {format}, {len(pairs)} modules, ranks {sorted({a.shape[0] for a, _ in pairs.values()})}")


def folder_of(name):
    os.makedirs(f"{OUT}/{name}", exist_ok=True)
    return f"{OUT}/{name}"


def names_of(targets, layers=range(LAYERS)):
    return [module(layer, target) for layer in layers for target in targets]


def peft_config(**settings):
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": BASE_NAME, "bias": "none",
        "fan_in_fan_out": False, "inference_mode": True, "target_modules": [t.split(".")[1] for t in ALL], **settings,
    }


def write_peft(name, config, ranks, scales, dtype, seed, key="base_model.model.{}.lora_{}.weight", mixed=None):
    pairs = random_pairs(ranks, scales, dtype, seed)
    if mixed is not None:
        pairs = {n: tuple(t.to(mixed[i % len(mixed)]) for t in p) for i, (n, p) in enumerate(pairs.items())}
    tensors = {}
    for n, (a, b) in pairs.items():
        tensors[key.format(n, "A")], tensors[key.format(n, "B")] = a.contiguous(), b.contiguous()
    folder = folder_of(name)
    save_file(tensors, f"{folder}/adapter_model.safetensors", metadata={"format": "pt"})
    json.dump(config, open(f"{folder}/adapter_config.json", "w"), indent=2)
    write(name, "peft", ("adapter_model.safetensors", "adapter_config.json"), scales, pairs)


def peft_patterns():
    """Ranks and alphas by pattern; the first key that matches wins. Written out by hand here, not by matching."""
    config = peft_config(
        r=8, lora_alpha=16,
        rank_pattern={r"model\.layers\.[0-4]\.self_attn\.q_proj": 4, "q_proj": 12, r"mlp\.(up|gate)_proj": 3, "layers.29.mlp.down_proj": 24},
        alpha_pattern={"down_proj": 6, r".*\.2\d\.self_attn\.v_proj": 32},
    )
    ranks, scales = {}, {}
    for layer in range(LAYERS):
        for target in ALL:
            rank, alpha = 8, 16
            if target == "self_attn.q_proj":
                rank = 4 if layer <= 4 else 12
            elif target in ("mlp.up_proj", "mlp.gate_proj"):
                rank = 3
            elif target == "mlp.down_proj":
                rank, alpha = (24 if layer == 29 else 8), 6
            elif target == "self_attn.v_proj" and 20 <= layer <= 29:
                alpha = 32
            ranks[module(layer, target)], scales[module(layer, target)] = rank, alpha / rank
    write_peft("peft-patterns-f32", config, ranks, scales, torch.float32, 1)
    write_peft("peft-patterns-mixed-types", config, ranks, scales, torch.float32, 2, mixed=[torch.float32, torch.float16, torch.bfloat16])
    rs = {name: scales[name] * math.sqrt(ranks[name]) for name in ranks}
    write_peft("peft-patterns-rslora-f16", {**config, "use_rslora": True}, ranks, rs, torch.float16, 3)


def peft_plain():
    ranks = dict.fromkeys(names_of(["self_attn.q_proj", "self_attn.v_proj"]), 8)
    scales = dict.fromkeys(ranks, 2.0)
    config = peft_config(r=8, lora_alpha=16)
    write_peft("peft-bf16-infix", config, ranks, scales, torch.bfloat16, 4, key="base_model.model.{}.lora_{}.default.weight")
    write_peft("peft-f64", config, ranks, scales, torch.float64, 5)


def peft_saved():
    """Written by PEFT's own save_pretrained; scales by hand."""
    model = AutoModelForCausalLM.from_pretrained(HF, dtype=torch.float32)
    config = LoraConfig(
        r=8, lora_alpha=16, target_modules="all-linear", use_rslora=True, task_type="CAUSAL_LM",
        rank_pattern={"k_proj": 5, r"model\.layers\.1\d\.mlp\.gate_proj": 2}, alpha_pattern={r"layers\.0\.mlp\.up_proj": 4},
    )
    torch.manual_seed(6)
    model = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(6)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            # rsLoRA: scale 16 / sqrt(8) for most.
            parameter.data = torch.randn(parameter.shape, generator=generator) * STRENGTH / 16
    model.peft_config["default"].base_model_name_or_path = BASE_NAME
    folder = folder_of("peft-saved")
    model.save_pretrained(folder)
    tensors, scales, pairs = load_file(f"{folder}/adapter_model.safetensors"), {}, {}
    for layer in range(LAYERS):
        for target in ALL:
            n = module(layer, target)
            rank = 5 if target == "self_attn.k_proj" else 2 if target == "mlp.gate_proj" and 10 <= layer <= 19 else 8
            alpha = 4 if target == "mlp.up_proj" and layer == 0 else 16
            pairs[n] = tuple(tensors.pop(f"base_model.model.{n}.lora_{x}.weight") for x in "AB")
            assert pairs[n][0].shape[0] == rank, n
            scales[n] = alpha / math.sqrt(rank)
    assert not tensors, tensors.keys()
    write("peft-saved", "peft", ("adapter_model.safetensors", "adapter_config.json"), scales, pairs)


def mlx(name, dtype, rank, scale, layers, seed):
    """By mlx-lm's own functions: A `[in, rank]`, B `[rank, out]`, the scale as it is, and a header that is not padded."""
    keys = ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"]
    ranks = dict.fromkeys(names_of(keys, range(LAYERS - layers, LAYERS)), rank)
    scales = dict.fromkeys(ranks, scale)
    pairs = random_pairs(ranks, scales, dtype, seed)
    model = Model(ModelArgs.from_dict(CONFIG))
    model.freeze()
    parameters = {"rank": rank, "scale": scale, "dropout": 0.0, "keys": keys}
    linear_to_lora_layers(model, layers, parameters)
    modules = dict(model.named_modules())
    for n, (a, b) in pairs.items():
        modules[n].lora_a, modules[n].lora_b = mx.array(a.T.contiguous().numpy()), mx.array(b.T.contiguous().numpy())
    tensors = dict(tree_flatten(model.trainable_parameters()))
    assert len(tensors) == 2 * len(pairs), tensors.keys()
    folder = folder_of(name)
    mx.save_safetensors(f"{folder}/adapters.safetensors", tensors)
    config = {
        "adapter_path": "adapters", "batch_size": 4, "fine_tune_type": "lora", "iters": 1000, "learning_rate": 1e-05,
        "lora_parameters": parameters, "mask_prompt": False, "max_seq_length": 2048, "model": BASE_NAME,
        "num_layers": layers, "optimizer": "adam", "seed": 0, "train": True,
    }
    save_config(config, f"{folder}/adapter_config.json")
    write(name, "mlx", ("adapters.safetensors", "adapter_config.json"), scales, pairs)


def kohya():
    """Dots become underscores; alpha is a scalar tensor; where there is none it is the rank, so the scale is 1."""
    ranks, scales, alphas = {}, {}, {}
    for layer in range(LAYERS):
        for i, target in enumerate(ALL):
            n = module(layer, target)
            ranks[n] = [4, 8, 16][(layer + i) % 3]
            alphas[n] = None if target == "mlp.up_proj" else 8.0
            scales[n] = 1.0 if alphas[n] is None else alphas[n] / ranks[n]
    pairs = random_pairs(ranks, scales, torch.float16, 9)
    tensors = {}
    for n, (a, b) in pairs.items():
        key = f"lora_{n.replace('.', '_')}"
        tensors[f"{key}.lora_down.weight"], tensors[f"{key}.lora_up.weight"] = a.contiguous(), b.contiguous()
        if alphas[n] is not None:
            tensors[f"{key}.alpha"] = torch.tensor(alphas[n], dtype=torch.float16)
    folder = folder_of("kohya-f16")
    save_file(tensors, f"{folder}/lora.safetensors", metadata={"ss_network_module": "networks.lora"})
    write("kohya-f16", "kohya", ("lora.safetensors", None), scales, pairs)


def lycoris_saved():
    """By LyCORIS, whose files of language models are kohya's in form; kohya's own scripts train image models only."""
    ranks, scales = dict.fromkeys(names_of(ALL), 4), dict.fromkeys(names_of(ALL), 0.5)
    LycorisNetwork.apply_preset({"target_module": ["LlamaAttention", "LlamaMLP"]})
    network = create_lycoris(AutoModelForCausalLM.from_pretrained(HF, dtype=torch.float32), 1.0, linear_dim=4, linear_alpha=2.0, algo="lora")
    network.apply_to()
    pairs = random_pairs(ranks, scales, torch.bfloat16, 13)
    parameters = dict(network.named_parameters())
    for n, (a, b) in pairs.items():
        key = f"lycoris_{n.replace('.', '_')}"
        parameters.pop(f"{key}.lora_down.weight").data, parameters.pop(f"{key}.lora_up.weight").data = a.float(), b.float()
    assert not parameters, parameters.keys()
    network.save_weights(f"{folder_of('lycoris-saved')}/lora.safetensors", torch.bfloat16, {})
    write("lycoris-saved", "kohya", ("lora.safetensors", None), scales, pairs)


def permuted(rows, heads):
    """llama.cpp keeps q's and k's rows so that rotated pairs lie next to each other (its `LlamaModel.permute`)."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def gguf_mixed():
    """By gguf-py, with ranks and types that differ; one alpha, divided by each tensor's own rank."""
    alpha = 12.0
    ranks = {n: 2 + 3 * (i % 5) for i, n in enumerate(names_of(ALL))}
    scales = {n: alpha / rank for n, rank in ranks.items()}
    pairs = random_pairs(ranks, scales, torch.float32, 10)
    pairs = {n: (a, b) if i % 2 else (a.half(), b.half()) for i, (n, (a, b)) in enumerate(pairs.items())}
    writer = gguf.GGUFWriter(f"{folder_of('gguf-mixed')}/adapter.gguf", "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    for n, (a, b) in pairs.items():
        layer, target = n.split(".")[2], target_of(n)
        heads = {"self_attn.q_proj": HEADS, "self_attn.k_proj": KV_HEADS}.get(target)
        stored = b if heads is None else permuted(b, heads)
        key = f"blk.{layer}.{GGUF_NAMES[target]}.weight"
        writer.add_tensor(f"{key}.lora_a", a.numpy())
        writer.add_tensor(f"{key}.lora_b", stored.contiguous().numpy())
    writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
    write("gguf-mixed", "gguf", ("adapter.gguf", None), scales, pairs)


def gguf_converted(outtype, dtype, seed):
    """By llama.cpp's convert_lora_to_gguf.py, which reads lora_alpha only: one rank, no rsLoRA."""
    ranks = dict.fromkeys(names_of(ALL), 8)
    scales = dict.fromkeys(ranks, 2.0)
    pairs = random_pairs(ranks, scales, torch.float32, seed)
    name = f"gguf-converted-{outtype}"
    folder = folder_of(name)
    source = folder_of(f"{name}/peft")
    save_file({f"base_model.model.{n}.lora_{x}.weight": t.contiguous() for n, p in pairs.items() for x, t in zip("AB", p)},
              f"{source}/adapter_model.safetensors", metadata={"format": "pt"})
    json.dump(peft_config(r=8, lora_alpha=16), open(f"{source}/adapter_config.json", "w"))
    command = [sys.executable, f"{LLAMA}/convert_lora_to_gguf.py", source, "--base", HF, "--outtype", outtype,
               "--outfile", f"{folder}/adapter.gguf"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    write(name, "gguf", ("adapter.gguf", None), scales, {n: tuple(t.to(dtype) for t in p) for n, p in pairs.items()})


def sum_of(name, members):
    """No file: what `graft compose` must give. Ranks side by side, which is the sum exactly."""
    pairs, scales = {}, {}
    for member, weight in members.items():
        truth, own = load_file(f"{OUT}/{member}/truth.safetensors"), json.load(open(f"{OUT}/{member}/truth.json"))["scales"]
        for n, scale in own.items():
            a, b = truth[f"{n}.a"], weight * scale * truth[f"{n}.b"]
            pairs[n] = (torch.cat([pairs[n][0], a]), torch.cat([pairs[n][1], b], 1)) if n in pairs else (a, b)
            scales[n] = 1.0
    folder_of(name)
    write(name, "sum", (None, None), scales, pairs, members)


def write_prompts():
    tokenizer = AutoTokenizer.from_pretrained(HF)
    turns = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    tokens = [tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False) for turn in turns]
    json.dump(tokens, open(f"{OUT}/prompts.json", "w"))


os.makedirs(OUT, exist_ok=True)
write_prompts()
peft_patterns()
peft_plain()
peft_saved()
mlx("mlx-f32", torch.float32, 8, 20.0, LAYERS, 7)
mlx("mlx-f16-last-16", torch.float16, 6, 2.5, 16, 8)
kohya()
lycoris_saved()
gguf_mixed()
sum_of("sum-of-three", {"peft-patterns-f32": 0.5, "gguf-mixed": 0.5, "mlx-f16-last-16": -0.25})
if LLAMA is None:
    print("skipped: gguf-converted-*, for want of llama.cpp's source")
else:
    gguf_converted("f32", torch.float32, 11)
    gguf_converted("f16", torch.float16, 12)
