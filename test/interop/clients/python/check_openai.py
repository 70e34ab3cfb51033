"""PyPI's openai. What it demands of streams and errors in detail: ../../openai-python/check.py."""

import openai
from checks import API_KEY, BASE_URL, CITY, MODEL, TOO_LONG, raises, run
from pydantic import BaseModel

client = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0)
HELLO = {"role": "user", "content": "Hello"}
AGAIN = {"role": "user", "content": "And again?"}


class City(BaseModel):
    city: str


def chat():
    answer = client.chat.completions.create(model=MODEL, messages=[HELLO])
    assert answer.choices[0].message.content == "Hi there."
    assert client.responses.create(model=MODEL, input="Hello").output_text == "Hi there."


def stream():
    with client.chat.completions.stream(model=MODEL, messages=[HELLO]) as events:
        assert events.get_final_completion().choices[0].message.content == "Hi there."
    with client.responses.stream(model=MODEL, input="Hello") as events:
        assert events.get_final_response().output_text == "Hi there."


def second_turn():
    message = client.chat.completions.create(model=MODEL, messages=[HELLO]).choices[0].message
    answer = client.chat.completions.create(model=MODEL, messages=[HELLO, message, AGAIN])
    assert answer.choices[0].message.content == "Still here."
    first = client.responses.create(model=MODEL, input=[HELLO])
    assert client.responses.create(model=MODEL, input=[HELLO, *first.output, AGAIN]).output_text == "Still here."


def schema():
    ask = {"role": "user", "content": "Describe a city"}
    parsed = client.chat.completions.parse(model=MODEL, messages=[ask], response_format=City)
    assert parsed.choices[0].message.parsed == City(city="Rome")
    assert client.responses.parse(model=MODEL, input=[ask], text_format=City).output_parsed == City(city="Rome")


def tools():
    ask = {"role": "user", "content": "Weather in Paris?"}
    functions = [{"type": "function", "function": {"name": "weather", "parameters": CITY, "strict": True}}]
    message = client.chat.completions.create(model=MODEL, messages=[ask], tools=functions).choices[0].message
    (call,) = message.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "Paris"}'), call
    result = {"role": "tool", "tool_call_id": call.id, "content": "18 degrees in Paris"}
    answer = client.chat.completions.create(model=MODEL, messages=[ask, message, result], tools=functions)
    assert answer.choices[0].message.content == "It is 18 degrees."


def embeddings():
    vectors = client.embeddings.create(model=MODEL, input=["one", "two", "one"]).data
    assert len(vectors) == 3 and vectors[0].embedding == vectors[2].embedding
    assert abs(sum(value**2 for value in vectors[1].embedding) - 1) < 1e-5


def errors():
    long = [{"role": "user", "content": TOO_LONG}]
    full = raises(openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=long))
    assert full.code == "context_length_exceeded"
    raises(openai.NotFoundError, lambda: client.chat.completions.create(model="nobody", messages=[HELLO]))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    for refused in (
        lambda: client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": [picture]}]),
        lambda: client.responses.create(model=MODEL, input="Hello", tools=[{"type": "web_search"}]),
        lambda: client.responses.create(model=MODEL, input="Hello", previous_response_id="resp_1"),
        lambda: client.responses.create(model=MODEL, input="Hello", background=True),
    ):
        assert raises(openai.BadRequestError, refused).code == "unsupported_parameter"
    stranger = client.with_options(api_key="sk-nobody")
    raises(openai.AuthenticationError, lambda: stranger.chat.completions.create(model=MODEL, messages=[HELLO]))
    return "refused: images, tools that run at OpenAI, previous_response_id, background"


run(chat, stream, second_turn, schema, tools, embeddings, errors)
