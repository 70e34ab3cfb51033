"""PyPI's instructor: objects by a schema, in each of its modes that graft has."""

import instructor
import openai
from checks import API_KEY, BASE_URL, MODEL, TOO_LONG, NotThere, raises, run
from instructor import Mode
from pydantic import BaseModel


class City(BaseModel):
    city: str


def ask(prompt, mode, key=API_KEY, model=MODEL, **settings):
    client = instructor.from_openai(openai.OpenAI(base_url=BASE_URL, api_key=key, max_retries=0), mode=mode)
    messages = settings.pop("messages", [])
    messages = [*messages, {"role": "user", "content": prompt}]
    return client.chat.completions.create(
        model=model, messages=messages, response_model=City, max_retries=0, **settings
    )


def chat():
    raise NotThere("")


def stream():
    client = instructor.from_openai(openai.OpenAI(base_url=BASE_URL, api_key=API_KEY), mode=Mode.JSON_SCHEMA)
    messages = [{"role": "user", "content": "Describe a city"}]
    *_, last = client.chat.completions.create_partial(model=MODEL, messages=messages, response_model=City)
    assert last.city == "Rome"


def second_turn():
    raise NotThere("")


def schema():
    for mode in (Mode.JSON_SCHEMA, Mode.JSON):
        assert ask("Describe a city", mode).city == "Rome", mode


def tools():
    for mode in (Mode.TOOLS, Mode.TOOLS_STRICT):
        assert ask("Call with a city", mode).city == "Rome", mode


def embeddings():
    raise NotThere("")


def errors():
    def cause(**settings):
        error = raises(Exception, lambda: ask(**{"prompt": "Describe a city", "mode": Mode.TOOLS, **settings}))
        return str(error)

    assert "context_length_exceeded" in cause(prompt=TOO_LONG)
    assert "model_not_found" in cause(model="nobody")
    assert "invalid_api_key" in cause(key="sk-nobody")


run(chat, stream, second_turn, schema, tools, embeddings, errors)
