"""Renders chat templates as transformers does (its utils/chat_template_utils.py): a line of JSON for each."""

import json
import sys
from datetime import datetime
from pathlib import Path

from jinja2.exceptions import TemplateError
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise TemplateError(message)


class Generation(Extension):
    """{% generation %}: marks what an assistant said, and changes nothing of the text."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation])
environment.filters["tojson"] = tojson
environment.globals["raise_exception"] = raise_exception
environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)

conversations = json.loads(Path(sys.argv[2]).read_text())
for path in sorted(Path(sys.argv[1]).glob("*.jinja")):
    for conversation in conversations:
        line = {"template": path.stem, "conversation": conversation["name"]}
        try:
            template = environment.from_string(path.read_text())
            line["text"] = template.render(
                messages=conversation["messages"],
                tools=conversation.get("tools"),
                add_generation_prompt=True,
                bos_token="<BOS>",
                eos_token="<EOS>",
            )
        except Exception as error:
            line["refusal"] = f"{type(error).__name__}: {error}"
        print(json.dumps(line))
