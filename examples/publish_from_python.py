"""Publishes a PEFT adapter from a training script, by HTTP and with the standard library alone.

    model.save_pretrained("out")
    from publish_from_python import publish
    print(publish("out", "alice/notes", why="epoch 3"))

or from a shell: python3 publish_from_python.py <folder> <name> [parent], such as: out alice/notes. The server is that of
GRAFT_URL and GRAFT_ADMIN_KEY, else the one that `npm start` runs in the current folder (.graft/local.json). Plain LoRA:
no rank_pattern, alpha_pattern or rsLoRA; `graft publish` reads those, and other formats.
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


class PublishError(Exception):
    """What went wrong, and what to do about it, in a sentence."""


def server():
    """Address and admin key: of the environment, or of the stack that runs in the current folder."""
    url, key = os.environ.get("GRAFT_URL"), os.environ.get("GRAFT_ADMIN_KEY")
    if url and key:
        return url.rstrip("/"), key
    if url or key:
        missing = "GRAFT_ADMIN_KEY" if url else "GRAFT_URL"
        raise PublishError(f"{missing} is not set. Set both GRAFT_URL and GRAFT_ADMIN_KEY, or neither where `npm start` runs.")
    try:
        with open(os.path.join(".graft", "local.json")) as file:
            local = json.load(file)
        return local["url"].rstrip("/"), local["adminKey"]
    except OSError:
        raise PublishError("No server. Run this where `npm start` runs, or set GRAFT_URL and GRAFT_ADMIN_KEY.") from None
    except (ValueError, KeyError):
        raise PublishError(".graft/local.json is not what `npm start` writes. Start it again.") from None


def call(method, path, body=None):
    """An answer of the admin API. Raises PublishError with the server's reason."""
    url, key = server()
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
    headers = {"authorization": f"Bearer {key}", "content-type": kind}
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data, headers, method=method)) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        try:
            text = json.loads(text)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            pass  # a proxy's own page
        raise PublishError(f"{method} {path}: {error.code} {text}") from None
    except urllib.error.URLError as error:
        raise PublishError(f"No answer from {url} ({error.reason}). Does `npm start` run there?") from None


def pack(folder, parent_chain):
    """The canonical file of docs/adapter-format.md: tensors under shorter names, sorted, and one entry of metadata."""
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not os.path.isfile(os.path.join(folder, name)):
            raise PublishError(f"{folder} has no {name}. Give the folder that `model.save_pretrained` wrote.")
    with open(os.path.join(folder, "adapter_config.json")) as file:
        config = json.load(file)
    if config.get("rank_pattern") or config.get("alpha_pattern") or config.get("use_rslora") or config.get("use_dora"):
        raise PublishError("not a plain LoRA: publish it with `graft publish`, which knows what is in it")
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
    if config.get("alora_invocation_tokens"):
        about["invocation"] = config["alora_invocation_tokens"]
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
        chain = next((version["chain_id"] for version in versions if version["live"]), None)
        if chain is None:
            raise PublishError(f"{parent} has no live version. Publish one first, or give another parent.")
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
    try:
        print("published", publish(*sys.argv[1:4]))
    except PublishError as error:
        sys.exit(f"error: {error}")
