"""PyPI's anthropic, whose base address is without /v1."""

import anthropic
from checks import API_KEY, BASE_URL, CITY, MODEL, TOO_LONG, NotThere, raises, run
from pydantic import BaseModel

client = anthropic.Anthropic(base_url=BASE_URL.removesuffix("/v1"), api_key=API_KEY, max_retries=0)
ASK = {"model": MODEL, "max_tokens": 200}
HELLO = {"role": "user", "content": "Hello"}


class City(BaseModel):
    city: str


def chat():
    answer = client.messages.create(**ASK, system="Be brief.", messages=[HELLO])
    assert answer.content[0].text == "Hi there." and answer.stop_reason == "end_turn"
    assert client.messages.count_tokens(model=MODEL, messages=[HELLO]).input_tokens > 0


def stream():
    with client.messages.stream(**ASK, messages=[HELLO]) as events:
        assert "".join(events.text_stream) == "Hi there."
        assert events.get_final_message().stop_reason == "end_turn"


def second_turn():
    first = client.messages.create(**ASK, messages=[HELLO])
    said = {"role": "assistant", "content": first.content}
    answer = client.messages.create(**ASK, messages=[HELLO, said, {"role": "user", "content": "And again?"}])
    assert answer.content[0].text == "Still here."


def schema():
    ask = [{"role": "user", "content": "Describe a city"}]
    assert client.messages.parse(**ASK, messages=ask, output_format=City).parsed_output == City(city="Rome")


def tools():
    functions = [{"name": "weather", "description": "Of a city.", "input_schema": CITY}]
    messages = [{"role": "user", "content": "Weather in Paris?"}]
    first = client.messages.create(**ASK, messages=messages, tools=functions)
    (call,) = first.content
    assert (call.type, call.name, call.input) == ("tool_use", "weather", {"city": "Paris"}), call
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "18 degrees in Paris"}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    answer = client.messages.create(**ASK, messages=messages, tools=functions)
    assert answer.content[0].text == "It is 18 degrees."


def embeddings():
    raise NotThere("")


def errors():
    long = [{"role": "user", "content": TOO_LONG}]
    full = raises(anthropic.BadRequestError, lambda: client.messages.create(**ASK, messages=long))
    assert full.body["error"]["type"] == "invalid_request_error"
    raises(anthropic.NotFoundError, lambda: client.messages.create(**{**ASK, "model": "nobody"}, messages=[HELLO]))
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    search = {"type": "web_search_20250305", "name": "web_search"}
    for more in ({"messages": [{"role": "user", "content": [picture]}]}, {"messages": [HELLO], "tools": [search]}):
        refused = raises(anthropic.BadRequestError, lambda more=more: client.messages.create(**ASK, **more))
        assert "support" in refused.body["error"]["message"], refused
    stranger = client.with_options(api_key="sk-nobody")
    raises(anthropic.AuthenticationError, lambda: stranger.messages.create(**ASK, messages=[HELLO]))
    return "refused: images, tools that run at Anthropic"


run(chat, stream, second_turn, schema, tools, embeddings, errors)
