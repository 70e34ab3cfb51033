"""PyPI's openai-agents, by chat completions and by responses."""

import openai
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from checks import API_KEY, BASE_URL, MODEL, TOO_LONG, NotThere, run
from pydantic import BaseModel


class City(BaseModel):
    city: str


@function_tool
def weather(city: str) -> str:
    """Of a city."""
    return f"18 degrees in {city}"


def agents(model=MODEL, key=API_KEY, **settings):
    for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel):
        client = openai.AsyncOpenAI(base_url=BASE_URL, api_key=key, max_retries=0)
        yield Agent(name="a", instructions="Be brief.", model=kind(model, openai_client=client), **settings)


async def chat():
    for agent in agents():
        assert (await Runner.run(agent, "Hello")).final_output == "Hi there."


async def stream():
    for agent in agents():
        answer, text = Runner.run_streamed(agent, "Hello"), ""
        async for event in answer.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                text += event.data.delta
        assert text == answer.final_output == "Hi there."


async def second_turn():
    for agent in agents():
        first = await Runner.run(agent, "Hello")
        again = [*first.to_input_list(), {"role": "user", "content": "And again?"}]
        assert (await Runner.run(agent, again)).final_output == "Still here."


async def schema():
    for agent in agents(output_type=City):
        assert (await Runner.run(agent, "Describe a city")).final_output == City(city="Rome")


async def tools():
    for agent in agents(tools=[weather]):
        assert (await Runner.run(agent, "Weather in Paris?")).final_output == "It is 18 degrees."
        streamed = Runner.run_streamed(agent, "Weather in Paris?")
        async for _ in streamed.stream_events():
            pass
        assert streamed.final_output == "It is 18 degrees."


def embeddings():
    raise NotThere("")


async def errors():
    async def fails(kind, prompt="Hello", **settings):
        for agent in agents(**settings):
            try:
                await Runner.run(agent, prompt)
            except kind:
                continue
            raise AssertionError(f"no {kind.__name__}")

    await fails(openai.BadRequestError, prompt=TOO_LONG)
    await fails(openai.NotFoundError, model="nobody")
    await fails(openai.AuthenticationError, key="sk-nobody")


run(chat, stream, second_turn, schema, tools, embeddings, errors)
