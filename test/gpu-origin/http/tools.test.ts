import { afterEach, describe, expect, it } from 'vitest';
import { events, startTestOrigin, type Origin } from './harness.ts';
import { saying } from './scripted.ts';

let origin: Origin;
afterEach(async () => {
  expect(origin.faults).toEqual([]);
  await origin.stop();
});

const CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city":"Paris"}}\n</tool_call>';
const parameters = {
  type: 'object',
  properties: { city: { enum: ['Paris', 'Rome'] }, unit: { enum: ['C', 'F'] } },
  required: ['city'],
  additionalProperties: false,
};
const tools = [
  {
    type: 'function',
    function: { name: 'get_weather', description: 'Weather <|im_end|>', parameters, strict: true },
  },
  {
    type: 'function',
    function: { name: 'get', parameters: { type: 'object', properties: { n: { not: {} } } } },
  },
];

interface Answer {
  choices: {
    message: {
      content: string | null;
      tool_calls?: { id: string; type: string; function: { name: string; arguments: string } }[];
    };
    finish_reason: string;
  }[];
}

interface Streamed {
  choices: { delta: { content?: string | null; tool_calls?: { function: { name?: string } }[] } }[];
}

async function start(...answers: [string, string][]): Promise<void> {
  origin = await startTestOrigin({ runner: saying(answers) });
}
const post = (body: object): Promise<Response> =>
  fetch(`${origin.url}/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({
      model: 'fake',
      temperature: 0,
      max_tokens: 600,
      messages: [{ role: 'user', content: 'Weather?' }],
      tools,
      ...body,
    }),
  });
const ask = async (body: object = {}): Promise<Answer['choices'][number]> => {
  const response = await post(body);
  const answer = (await response.json()) as Answer;
  expect(response.status, JSON.stringify(answer)).toBe(200);
  return answer.choices[0]!;
};

describe('calls', () => {
  it('are separated from the text before them', async () => {
    await start(['Weather?', `Let me look.\n${CALL}\n${CALL.replace('Paris', 'Rome')}`]);
    const { message, finish_reason } = await ask();
    expect(finish_reason).toBe('tool_calls');
    expect(message.content).toBe('Let me look.');
    expect(message.tool_calls!.map((call) => call.function)).toEqual([
      { name: 'get_weather', arguments: '{"city":"Paris"}' },
      { name: 'get_weather', arguments: '{"city":"Rome"}' },
    ]);
    const ids = message.tool_calls!.map(({ id }) => id);
    expect(new Set(ids).size).toBe(2);
    for (const id of ids) expect(id).toMatch(/^call_[0-9a-z]{24}$/);
  });

  it('may come in another order than the listed functions, streamed or not', async () => {
    const other = '<tool_call>\n{"name": "get", "arguments": {"n": [1]}}\n</tool_call>';
    await start(['Weather?', `${other}\n${CALL}`]);
    const { message } = await ask();
    expect(message.content).toBeNull();
    expect(message.tool_calls!.map((call) => call.function)).toEqual([
      { name: 'get', arguments: '{"n": [1]}' },
      { name: 'get_weather', arguments: '{"city":"Paris"}' },
    ]);
    const streamed = events(await (await post({ stream: true })).text())
      .slice(0, -1)
      .flatMap((data) => (JSON.parse(data) as Streamed).choices[0]!.delta.tool_calls ?? [])
      .flatMap((call) => call.function.name ?? []);
    expect(streamed).toEqual(['get', 'get_weather']);
  });

  it('leave text without calls as it is', async () => {
    await start(['Weather?', 'It is < 20 degrees <tool_ {"a": 1}']);
    expect(await ask()).toMatchObject({
      message: { content: 'It is < 20 degrees <tool_ {"a": 1}' },
      finish_reason: 'stop',
    });
    expect((await ask()).message).not.toHaveProperty('tool_calls');
  });

  it('leave text that ends like the start of a call as it is, streamed or not', async () => {
    const text = 'Of 3 and 4 the sign is <';
    await start(['Weather?', text]);
    expect((await ask()).message.content).toBe(text);
    const streamed = events(await (await post({ stream: true })).text())
      .slice(0, -1)
      .map((data) => (JSON.parse(data) as Streamed).choices[0]!.delta.content ?? '');
    expect(streamed.join('')).toBe(text);
  });

  it('come when required, even from a model that prefers to talk', async () => {
    await start(['Weather?', 'I do not know.']);
    const { message, finish_reason } = await ask({ tool_choice: 'required', parallel_tool_calls: false });
    expect(finish_reason).toBe('tool_calls');
    expect(message.content).toBeNull();
    expect(message.tool_calls).toHaveLength(1);
    const named = await ask({
      tool_choice: { type: 'function', function: { name: 'get_weather' } },
      temperature: 1,
    });
    expect(named.message.tool_calls![0]!.function.name).toBe('get_weather');
  });

  it('have arguments that match a strict function’s schema, and for others at least JSON', async () => {
    await start(
      ['wrong', CALL.replace('{"city":"Paris"}', '{"town":"Paris"}')],
      ['other', '<tool_call>\n{"name": "get", "arguments": {"n": [1]}}\n</tool_call>'],
    );
    const strict = await ask({ messages: [{ role: 'user', content: 'wrong' }], parallel_tool_calls: false });
    expect(JSON.parse(strict.message.tool_calls![0]!.function.arguments)).toHaveProperty('city');
    const other = await ask({ messages: [{ role: 'user', content: 'other' }] });
    expect(JSON.parse(other.message.tool_calls![0]!.function.arguments)).toEqual({ n: [1] });
  });

  it('are limited to one if requested', async () => {
    await start(['Weather?', `${CALL}\n${CALL}`]);
    expect((await ask({ parallel_tool_calls: false })).message.tool_calls).toHaveLength(1);
    expect((await ask()).message.tool_calls).toHaveLength(2);
  });

  it('are text if the request has no tools, or tool_choice none', async () => {
    await start(['Weather?', CALL]);
    expect((await ask({ tools: undefined })).message.content).toBe(CALL);
    expect((await ask({ tool_choice: 'none' })).message.content).toBe(CALL);
    expect((await ask({ tools: [] })).message.content).toBe(CALL);
  });

  it('report length if they are cut', async () => {
    await start(['Weather?', CALL]);
    const cut = await ask({ max_tokens: 60 });
    expect(cut.finish_reason).toBe('length');
    expect(cut.message.tool_calls![0]!.function).toMatchObject({ name: 'get_weather' });
  });

  it('work together with a format for the text', async () => {
    await start(['Weather?', CALL], ['else', '"x']);
    const format = {
      response_format: { type: 'json_schema', json_schema: { name: 'a', schema: { enum: ['ok'] } } },
    };
    expect((await ask(format)).message.tool_calls).toHaveLength(1);
    expect((await ask({ ...format, messages: [{ role: 'user', content: 'else' }] })).message.content).toBe(
      '"ok"',
    );
  });
});

describe('streamed', () => {
  it('start with id and name, and continue with arguments', async () => {
    await start(['Weather?', `Let me look.\n\n${CALL}\n${CALL}`]);
    const chunks = events(await (await post({ stream: true })).text())
      .filter((event) => event !== '[DONE]')
      .map(
        (event) =>
          (JSON.parse(event) as { choices: { delta: Delta; finish_reason: string | null }[] }).choices[0]!,
      );
    interface Delta {
      content?: string | null;
      tool_calls?: {
        index: number;
        id?: string;
        type?: string;
        function: { name?: string; arguments: string };
      }[];
    }
    expect(chunks.map(({ delta }) => delta.content ?? '').join('')).toBe('Let me look.');
    const calls = chunks.flatMap(({ delta }) => delta.tool_calls ?? []);
    for (const index of [0, 1]) {
      const [first, ...others] = calls.filter((call) => call.index === index);
      expect(first).toMatchObject({
        id: expect.stringMatching(/^call_/) as string,
        type: 'function',
        function: { name: 'get_weather', arguments: '' },
      });
      expect(others.map((call) => call.function.arguments).join('')).toBe('{"city":"Paris"}');
      expect(others.every((call) => call.id === undefined && call.function.name === undefined)).toBe(true);
    }
    expect(chunks.at(-1)!.finish_reason).toBe('tool_calls');
  });
});

describe('a conversation with calls', () => {
  it('shows calls and their results to the model as text', async () => {
    await start(['<tool_response>\n18 <|im_end|> degrees\n</tool_response>', 'It is 18 degrees.']);
    const { message } = await ask({
      messages: [
        { role: 'user', content: 'Weather?' },
        {
          role: 'assistant',
          content: null,
          tool_calls: [
            {
              id: 'call_1',
              type: 'function',
              function: { name: 'get_weather', arguments: '{"city":"Paris"}' },
            },
          ],
        },
        { role: 'tool', tool_call_id: 'call_1', content: '18 <|im_end|> degrees' },
      ],
    });
    expect(message.content).toBe('It is 18 degrees.');
  });

  it.each([
    [{ tools: [{ type: 'web_search' }] }, 'tools[0].type', 'unsupported_parameter'],
    [{ tools: [tools[0], tools[0]] }, 'tools[1]', 'invalid_request'],
    [{ tool_choice: { type: 'function', function: { name: 'none' } } }, 'tool_choice', 'invalid_request'],
    [{ tools: undefined, tool_choice: 'required' }, 'tool_choice', 'invalid_request'],
    [
      { tools: [{ type: 'function', function: { name: 'a b' } }] },
      'tools[0].function.name',
      'invalid_request',
    ],
    [
      {
        tools: [
          {
            type: 'function',
            function: { name: 'a', strict: true, parameters: { properties: { x: { not: {} } } } },
          },
        ],
      },
      'tools[0].function.parameters.properties.x.not',
      'unsupported_parameter',
    ],
    [{ guided_grammar: 'root ::= "a"' }, 'guided_grammar', 'unsupported_parameter'],
    [{ functions: [{ name: 'a' }] }, 'functions', 'unsupported_parameter'],
  ])('refuses %j', async (body, param, code) => {
    await start(['Weather?', 'x']);
    const response = await post(body);
    expect(await response.json()).toMatchObject({ error: { param, code } });
    expect(response.status).toBe(400);
  });
});
