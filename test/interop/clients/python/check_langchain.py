"""PyPI's langchain-openai, by chat completions and by responses."""

import openai
from checks import API_KEY, BASE_URL, MODEL, TOO_LONG, raises, run
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

SETTINGS = {"model": MODEL, "base_url": BASE_URL, "api_key": API_KEY, "max_retries": 0}
BY_CHAT = ChatOpenAI(**SETTINGS)
BY_RESPONSES = ChatOpenAI(**SETTINGS, use_responses_api=True)
BOTH = (BY_CHAT, BY_RESPONSES)


class City(BaseModel):
    city: str


@tool
def weather(city: str) -> str:
    """Of a city."""
    return f"18 degrees in {city}"


def chat():
    for model in BOTH:
        assert model.invoke("Hello").text == "Hi there."


def stream():
    for model in BOTH:
        assert "".join(chunk.text for chunk in model.stream("Hello")) == "Hi there."


def second_turn():
    for model in BOTH:
        messages = [HumanMessage("Hello"), model.invoke("Hello"), HumanMessage("And again?")]
        assert model.invoke(messages).text == "Still here."


def schema():
    for model in BOTH:
        assert model.with_structured_output(City).invoke("Describe a city") == City(city="Rome")
    called = BY_CHAT.with_structured_output(City, method="function_calling")
    assert called.invoke("Call with a city") == City(city="Rome")


def tools():
    for model in BOTH:
        bound = model.bind_tools([weather])
        messages = [HumanMessage("Weather in Paris?")]
        message = bound.invoke(messages)
        (call,) = message.tool_calls
        assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})
        result = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
        assert bound.invoke([*messages, message, result]).text == "It is 18 degrees."


def embeddings():
    embedder = OpenAIEmbeddings(**SETTINGS, check_embedding_ctx_length=False)
    first, second = embedder.embed_documents(["one", "two"])
    assert embedder.embed_query("one") == first and len(first) == len(second)
    return "with check_embedding_ctx_length=False; otherwise it sends token ids of OpenAI's models"


def errors():
    for model in BOTH:
        raises(ContextOverflowError, lambda: model.invoke(TOO_LONG))
    stranger = ChatOpenAI(**{**SETTINGS, "api_key": "sk-nobody"})
    raises(openai.AuthenticationError, lambda: stranger.invoke("Hello"))
    raises(openai.NotFoundError, lambda: ChatOpenAI(**{**SETTINGS, "model": "nobody"}).invoke("Hello"))


run(chat, stream, second_turn, schema, tools, embeddings, errors)
