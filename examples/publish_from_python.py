"""Publishes a PEFT adapter from a training script, by HTTP and with the standard library alone.

    model.save_pretrained("out")
    from publish_from_python import publish
    print(publish("out", "alice/notes", why="epoch 3"))      # GRAFT_URL and GRAFT_ADMIN_KEY from the environment

or from a shell: python3 publish_from_python.py out alice/notes [parent]. Plain LoRA: no rank_pattern, alpha_pattern or
rsLoRA; `graft publish` reads those, and other formats.
"""

import hashlib
import json
import os
import struct
import sys
import urllib.error
import urllib.parse
import urllib.request

PART_BYTES = 24 * 1024 * 1024  # what the edge takes at once


def call(method, path, body=None):
    """An answer of the admin API. Raises RuntimeError with the server's reason."""
    url, key = os.environ["GRAFT_URL"].rstrip("/"), os.environ["GRAFT_ADMIN_KEY"]
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
    headers = {"authorization": f"Bearer {key}", "content-type": kind}
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data, headers, method=method)) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()}") from None


def pack(folder, parent_chain):
    """The canonical file of docs/adapter-format.md: tensors under shorter names, sorted, and one entry of metadata."""
    with open(os.path.join(folder, "adapter_config.json")) as file:
        config = json.load(file)
    if config.get("rank_pattern") or config.get("alpha_pattern") or config.get("use_rslora") or config.get("use_dora"):
        raise ValueError("not a plain LoRA: publish it with `graft publish`, which knows what is in it")
    with open(os.path.join(folder, "adapter_model.safetensors"), "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        tensors = file.read()
    header.pop("__metadata__", None)
    found = {name.removeprefix("base_model.model.").removesuffix(".weight"): entry for name, entry in header.items()}
    alpha = config["lora_alpha"]
    alpha = int(alpha) if alpha == int(alpha) else alpha  # JSON as JavaScript prints it: 16, not 16.0
    modules = {
        name.removesuffix(".lora_A"): {"rank": found[name]["shape"][0], "alpha": alpha}
        for name in sorted(found)
        if name.endswith(".lora_A")
    }
    base = config["base_model_name_or_path"].rstrip("/").split("/")[-1].lower()
    about = {"format": 1, "base": base, "modules": modules, "parent": parent_chain}
    entries, data = {"__metadata__": {"graft.config": json.dumps(about, separators=(",", ":"))}}, b""
    for name in sorted(found):
        begin, end = found[name]["data_offsets"]
        at = [len(data), len(data) + end - begin]
        entries[name] = {"dtype": found[name]["dtype"], "shape": found[name]["shape"], "data_offsets": at}
        data += tensors[begin:end]
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def publish(folder, name, parent=None, why=None):
    """Sends the adapter in parts, closes it and makes it the live version of `name`. Repeating it changes nothing."""
    chain = None
    if parent is not None:
        versions = call("GET", "/admin/versions?name=" + urllib.parse.quote(parent, safe=""))["versions"]
        chain = next(version["chain_id"] for version in versions if version["live"])
    file = pack(folder, chain)
    digest = hashlib.sha256(file).hexdigest()
    parts = [file[at : at + PART_BYTES] for at in range(0, len(file), PART_BYTES)]
    for index, part in enumerate(parts):
        call("PUT", f"/admin/blobs/{digest}/parts/{index}", part)
    record = [{"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()} for part in parts]
    call("POST", f"/admin/blobs/{digest}", {"bytes": len(file), "parts": record})
    version = call("POST", "/admin/versions", {"name": name, "digest": digest, "parent": parent, "why": why})
    return f"{version['name']}@{version['version']}"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    print("published", publish(*sys.argv[1:4]))
