"""GGUF files of the tiny bases, by llama.cpp's own converter: FOLDER/FAMILY/base -> FOLDER/FAMILY.gguf

    python3 convert_tiny.py LLAMA_CPP_SOURCE FOLDER FAMILY…

Only the vocabulary is written here, as GPT-2's, since the converter knows vocabularies by hashes of the real ones.
"""
import json, sys
from pathlib import Path

llama, folder, families = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
sys.path[:0] = [llama, f"{llama}/gguf-py"]
import gguf, torch
from conversion import ModelBase, ModelType, get_model_architecture, get_model_class


def set_vocab(model):
    tokenizer = json.loads((model.dir_model / "tokenizer.json").read_text())
    vocab, special = tokenizer["model"]["vocab"], {token["content"] for token in tokenizer["added_tokens"]}
    tokens = sorted(vocab, key=vocab.get)
    writer = model.gguf_writer
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens])
    # A file without merges is refused; the tiny vocabulary has no "ab".
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


for family in families:
    base = folder / family / "base"
    hparams = ModelBase.load_hparams(base, False)
    plain = get_model_class(get_model_architecture(hparams, ModelType.TEXT))
    # Of the class itself, and of those inside it that do its work (Mistral 3): converters are registered when they are
    # subclassed.
    for one in (plain, *(inner for inner in vars(plain).values() if isinstance(inner, type))):
        one.set_vocab = set_vocab
    # Qwen3.5 without layers that predict further tokens.
    plain.no_mtp = True
    with torch.inference_mode():
        plain(base, gguf.LlamaFileType.ALL_F32, folder / f"{family}.gguf").write()
