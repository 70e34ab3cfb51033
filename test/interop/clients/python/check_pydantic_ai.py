"""PyPI's pydantic-ai, by chat completions and by responses."""

from checks import API_KEY, BASE_URL, MODEL, TOO_LONG, raises, run
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, Embedder, ModelHTTPError, NativeOutput, ToolOutput
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.exceptions import ModelContextWindowExceededError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


class City(BaseModel):
    city: str


def models(name=MODEL, key=API_KEY):
    for kind in (OpenAIChatModel, OpenAIResponsesModel):
        # A client of its own for each: every run has an event loop of its own.
        client = AsyncOpenAI(base_url=BASE_URL, api_key=key, max_retries=0)
        yield kind(name, provider=OpenAIProvider(openai_client=client))


def chat():
    for model in models():
        assert Agent(model, instructions="Be brief.").run_sync("Hello").output == "Hi there."


async def stream():
    for model in models():
        async with Agent(model).run_stream("Hello") as answer:
            assert [text async for text in answer.stream_text()][-1] == "Hi there."


def second_turn():
    for model in models():
        first = Agent(model).run_sync("Hello")
        again = Agent(model).run_sync("And again?", message_history=first.all_messages())
        assert again.output == "Still here."


def schema():
    for model in models():
        assert Agent(model, output_type=NativeOutput(City)).run_sync("Describe a city").output == City(city="Rome")
        called = Agent(model, output_type=ToolOutput(City, name="City"))
        assert called.run_sync("Call with a city").output == City(city="Rome")


def tools():
    for model in models():
        agent = Agent(model)

        @agent.tool_plain
        def weather(city: str) -> str:
            """Of a city."""
            return f"18 degrees in {city}"

        assert agent.run_sync("Weather in Paris?").output == "It is 18 degrees."


def embeddings():
    client = AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0)
    model = OpenAIEmbeddingModel(MODEL, provider=OpenAIProvider(openai_client=client))
    first, _, third = Embedder(model).embed_documents_sync(["one", "two", "one"]).embeddings
    assert first == third


def errors():
    for model in models():
        raises(ModelContextWindowExceededError, lambda: Agent(model).run_sync(TOO_LONG))
    for model in models(name="nobody"):
        assert raises(ModelHTTPError, lambda: Agent(model).run_sync("Hello")).status_code == 404
    for model in models(key="sk-nobody"):
        assert raises(ModelHTTPError, lambda: Agent(model).run_sync("Hello")).status_code == 401


run(chat, stream, second_turn, schema, tools, embeddings, errors)
