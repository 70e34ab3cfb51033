"""PyPI's openai against a server: what the package demands of answers, streams and errors.

Environment: OPENAI_BASE_URL, OPENAI_API_KEY, MODEL (an id with slashes); BREAKING_BASE_URL and BREAKING_API_KEY of a
server whose model breaks in the middle of a stream. Prints one line a check; exits 1 at a failure.
"""

import os
import sys

try:
    import openai
except ImportError:
    print('skipped: the Python package "openai" is not installed')
    sys.exit(77)

MODEL = os.environ["MODEL"]
client = openai.OpenAI(max_retries=0)
ASK = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 8,
    "temperature": 0,
    "extra_body": {"ignore_eos": True},
}
RESPOND = {
    "model": MODEL,
    "input": "hello",
    "max_output_tokens": 8,
    "temperature": 0,
    "extra_body": {"ignore_eos": True},
}


def chat():
    whole = client.chat.completions.create(**ASK)
    assert whole.choices[0].finish_reason == "length"
    assert whole._request_id
    chunks = list(client.chat.completions.create(**ASK, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.usage is None for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    # The helper throws at an answer that its limit cut off: this one ends at a stop string.
    with client.chat.completions.stream(**ASK, stop=[text[3:]]) as stream:
        assert stream.get_final_completion().choices[0].message.content == text[:3]


def usage():
    chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 8


def choices():
    body = {**ASK, "temperature": 1, "seed": 5}
    several = client.chat.completions.create(**body, n=3, logprobs=True, top_logprobs=2)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in several.choices}) == 3
    assert len(several.choices[2].logprobs.content) == 8
    assert several.usage.completion_tokens == 24


def sampling():
    client.chat.completions.create(
        **{**ASK, "extra_body": {"min_p": 0.1, "top_k": 5, "repetition_penalty": 1.1}},
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        logit_bias={"5": -100},
        stop=["zzz"],
    )


def texts():
    body = {"model": MODEL, "prompt": "hello", "max_tokens": 4, "temperature": 0, "logprobs": 2, "echo": True}
    whole = client.completions.create(**body)
    pieces = [chunk.choices[0].text for chunk in client.completions.create(**body, stream=True)]
    assert "".join(pieces) == whole.choices[0].text
    assert whole.choices[0].logprobs.token_logprobs[0] is None


def responses():
    whole = client.responses.create(**RESPOND)
    assert whole.store is False and whole.status == "incomplete"
    events = list(client.responses.create(**RESPOND, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.incomplete"
    assert events[-1].response.output_text == whole.output_text
    # As above: the helper waits for response.completed.
    text = whole.output_text
    stopped = {**RESPOND, "extra_body": {"ignore_eos": True, "stop": [text[3:]]}}
    with client.responses.stream(**stopped) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == text[:3]
    following = [{"role": "user", "content": "hello"}, *whole.output, {"role": "user", "content": "and?"}]
    assert client.responses.create(**{**RESPOND, "input": following}).usage.input_tokens > whole.usage.input_tokens


def models():
    ids = [model.id for model in client.models.list()]
    assert MODEL in ids
    assert client.models.retrieve(MODEL).id == MODEL


def errors():
    def fails(kind, code, call):
        try:
            call()
        except kind as error:
            assert error.code == code, error.code
            return error
        raise AssertionError(f"no {kind.__name__}")

    bad = fails(openai.BadRequestError, "invalid_request", lambda: client.chat.completions.create(**{**ASK, "temperature": 3}))
    assert bad.param == "temperature" and bad.request_id
    fails(openai.NotFoundError, "model_not_found", lambda: client.models.retrieve("nobody"))
    fails(openai.NotFoundError, "unknown_url", lambda: client.moderations.create(input="x"))
    fails(openai.NotFoundError, "not_found", lambda: client.responses.retrieve("resp_1"))
    fails(
        openai.BadRequestError,
        "unsupported_parameter",
        lambda: client.responses.create(**RESPOND, previous_response_id="resp_1"),
    )
    fails(
        openai.BadRequestError,
        "unsupported_parameter",
        lambda: client.chat.completions.create(**ASK, web_search_options={}, modalities=["audio"]),
    )
    stranger = client.with_options(api_key="sk-nobody")
    fails(openai.AuthenticationError, "invalid_api_key", lambda: stranger.models.list())


def broken_streams():
    other = openai.OpenAI(
        base_url=os.environ["BREAKING_BASE_URL"], api_key=os.environ["BREAKING_API_KEY"], max_retries=0
    )

    def breaks(stream):
        try:
            for _ in stream:
                pass
        except openai.APIError as error:
            assert error.code == "internal_error", error.code
            return
        raise AssertionError("the stream ended as if all were well")

    breaks(other.chat.completions.create(**ASK, stream=True))
    breaks(
        other.completions.create(
            model=MODEL, prompt="x", max_tokens=8, stream=True, extra_body={"ignore_eos": True}
        )
    )
    last = list(other.responses.create(**RESPOND, stream=True))[-1]
    assert last.type == "response.failed" and last.response.error.code == "server_error"


def retries():
    eager = openai.OpenAI(max_retries=3)
    try:
        eager.chat.completions.create(**{**ASK, "model": "nobody"})
    except openai.NotFoundError as error:
        # Which try this was; the client counts in a header.
        assert error.response.request.headers["x-stainless-retry-count"] == "0"
        return
    raise AssertionError("somebody answered as nobody")


failed = 0
for check in (chat, usage, choices, sampling, texts, responses, models, errors, broken_streams, retries):
    try:
        check()
        print(f"ok      {check.__name__}")
    except Exception as error:  # every check is told, whatever went wrong
        failed += 1
        print(f"FAILED  {check.__name__}: {type(error).__name__}: {error}")
print(f"openai {openai.__version__}: {'all passed' if failed == 0 else f'{failed} failed'}")
sys.exit(1 if failed else 0)
