"""
Texts and conversations as Hugging Face encodes them: encode.py TOKENIZER_FOLDER CASES.json, one JSON document.
What tokenizer.json says, by the library that reads it; transformers' own classes may build another tokenizer from its
vocabulary (5.24's LlamaTokenizer takes blanks at the beginning otherwise), and how many texts they take otherwise is told.
"""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer

folder = Path(sys.argv[1])
cases = json.loads(Path(sys.argv[2]).read_text())
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
transformers = AutoTokenizer.from_pretrained(folder)


def encode(text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def converse(messages):
    try:
        return {"ids": encode(transformers.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))}
    except Exception as error:
        return {"refusal": f"{type(error).__name__}: {error}"}


texts = [encode(text) for text in cases["texts"]]
json.dump(
    {
        "class": type(transformers).__name__,
        "class_otherwise": sum(
            transformers.encode(text, add_special_tokens=False) != ids for text, ids in zip(cases["texts"], texts)
        ),
        "texts": texts,
        "conversations": [converse(messages) for messages in cases["conversations"]]
        if transformers.chat_template
        else [],
    },
    sys.stdout,
)
