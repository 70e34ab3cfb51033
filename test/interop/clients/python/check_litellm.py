"""PyPI's litellm: its provider of whatever is compatible with OpenAI's API, and its Anthropic one."""

import json

import litellm
from checks import API_KEY, BASE_URL, CITY, MODEL, TOO_LONG, raises, run
from pydantic import BaseModel

OPENAI = {"model": f"openai/{MODEL}", "api_base": BASE_URL, "api_key": API_KEY, "max_retries": 0}
ANTHROPIC = {
    **{"model": f"anthropic/{MODEL}", "api_base": BASE_URL.removesuffix("/v1"), "api_key": API_KEY},
    **{"max_tokens": 200, "max_retries": 0},
}
BOTH = (OPENAI, ANTHROPIC)
HELLO = {"role": "user", "content": "Hello"}


class City(BaseModel):
    city: str


def chat():
    for by in BOTH:
        answer = litellm.completion(**by, messages=[HELLO])
        assert answer.choices[0].message.content == "Hi there.", by["model"]
    assert litellm.responses(**OPENAI, input="Hello").output[0].content[0].text == "Hi there."


def stream():
    for by in BOTH:
        chunks = list(litellm.completion(**by, messages=[HELLO], stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hi there.", by["model"]


def second_turn():
    for by in BOTH:
        message = litellm.completion(**by, messages=[HELLO]).choices[0].message
        answer = litellm.completion(**by, messages=[HELLO, message, {"role": "user", "content": "And again?"}])
        assert answer.choices[0].message.content == "Still here.", by["model"]


def schema():
    ask = [{"role": "user", "content": "Describe a city"}]
    answer = litellm.completion(**OPENAI, messages=ask, response_format=City)
    assert City.model_validate_json(answer.choices[0].message.content) == City(city="Rome")
    # Of an Anthropic model that it does not know it asks a call of a tool with the schema.
    called = [{"role": "user", "content": "Call json_tool_call"}]
    answer = litellm.completion(**ANTHROPIC, messages=called, response_format=City)
    assert City.model_validate_json(answer.choices[0].message.content) == City(city="Rome")


def tools():
    functions = [{"type": "function", "function": {"name": "weather", "description": "", "parameters": CITY}}]
    for by in BOTH:
        messages = [{"role": "user", "content": "Weather in Paris?"}]
        message = litellm.completion(**by, messages=messages, tools=functions).choices[0].message
        (call,) = message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
        result = {"role": "tool", "tool_call_id": call.id, "content": "18 degrees in Paris"}
        answer = litellm.completion(**by, messages=[*messages, message, result], tools=functions)
        assert answer.choices[0].message.content == "It is 18 degrees.", by["model"]


def embeddings():
    data = litellm.embedding(**OPENAI, input=["one", "two", "one"]).data
    assert len(data) == 3 and data[0]["embedding"] == data[2]["embedding"]


def errors():
    long = [{"role": "user", "content": TOO_LONG}]
    for by in BOTH:
        raises(litellm.ContextWindowExceededError, lambda: litellm.completion(**by, messages=long))
        stranger = {**by, "api_key": "sk-nobody"}
        raises(litellm.AuthenticationError, lambda: litellm.completion(**stranger, messages=[HELLO]))
        nobody = {**by, "model": by["model"].split("/")[0] + "/nobody"}
        raises(litellm.NotFoundError, lambda: litellm.completion(**nobody, messages=[HELLO]))


run(chat, stream, second_turn, schema, tools, embeddings, errors)
