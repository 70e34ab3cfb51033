/** What clients ask for beside chat completions: other APIs, raw texts, vectors, tokens, and functions' results. */
import type { TemplateMessage } from '../../../gpu-origin/model/chat-template.ts';
import type { Actor, Outcome, Simulation } from '../simulation.ts';
import { type Asking, askModel, eventsOf } from './asking.ts';
import { askedForm, type Call, CALLING, shownOf, withCalls } from './forms.ts';
import { liveKeys, namesOf, type Operation, pickOr } from './operation.ts';

type Read = Asking['read'];

interface Dialect {
  body: (content: string, most: number) => object;
  whole: (json: unknown) => string;
  /** Of one event of a stream: text, the end, or an error's code. */
  event: (event: unknown) => { text?: string; ends?: boolean; error?: string };
}

interface MessageEvent {
  type: string;
  delta?: { text?: string };
  error?: { code: string };
}
interface ResponseEvent {
  type: string;
  delta?: string;
  response?: { error?: { code: string } | null };
  code?: string;
}

const text = (content: readonly { text?: string }[] = []): string =>
  content.map((part) => part.text ?? '').join('');

/** The same question in the words of another API; what answers must be the same. */
const DIALECTS = {
  '/v1/messages': {
    body: (content, most) => ({ messages: [{ role: 'user', content }], max_tokens: most }),
    whole: (json) => text((json as { content: { text?: string }[] }).content),
    event: (event) => {
      const { type, delta, error } = event as MessageEvent;
      return {
        text: type === 'content_block_delta' ? (delta?.text ?? '') : '',
        ends: type === 'message_stop',
        ...(type === 'error' ? { error: error?.code ?? 'error' } : {}),
      };
    },
  },
  '/v1/responses': {
    body: (content, most) => ({ input: content, max_output_tokens: most }),
    whole: (json) =>
      (json as { output: { content?: { text?: string }[] }[] }).output
        .map(({ content }) => text(content))
        .join(''),
    event: (event) => {
      const { type, delta, response, code } = event as ResponseEvent;
      return {
        text: type === 'response.output_text.delta' ? (delta ?? '') : '',
        ends: type === 'response.completed' || type === 'response.incomplete',
        ...(type === 'response.failed' || type === 'error'
          ? { error: response?.error?.code ?? code ?? 'error' }
          : {}),
      };
    },
  },
} as const satisfies Record<string, Dialect>;

/** To its end, or to an error: no stream ends with neither. */
const readStream =
  (dialect: Dialect): Read =>
  (answer) => {
    const events = eventsOf(answer.text);
    if (events === null) return null;
    let said = '';
    for (const event of events) {
      const { text: piece = '', ends = false, error } = dialect.event(event);
      said += piece;
      if (error !== undefined) return { error };
      if (ends) return { said };
    }
    return null;
  };

const CONTENTS = ['hello world', 'what is it'];
const model = (sim: Simulation, actor: Actor): string =>
  pickOr(actor.random, namesOf(sim, actor, 'live'), 'base');
/** Several requests may have the same. */
const sameIds = ({ random }: Actor): Record<string, string> => ({
  'x-request-id': `request ${random.below(5)}`,
});

async function askIn(sim: Simulation, actor: Actor, path: keyof typeof DIALECTS): Promise<Outcome> {
  const { random } = actor;
  const dialect: Dialect = DIALECTS[path];
  const content = random.pick(CONTENTS);
  const maxTokens = random.between(1, 20);
  const stream = random.chance(0.5);
  return askModel(sim, actor, {
    path,
    body: { model: model(sim, actor), temperature: 0, stream, ...dialect.body(content, maxTokens) },
    headers: sameIds(actor),
    mostTokens: maxTokens,
    read: stream ? readStream(dialect) : ({ json }) => ({ said: dialect.whole(json) }),
    right: (chain) => sim.oracle.answer({ content, chain, maxTokens }).text,
  });
}

async function askForTwo(sim: Simulation, actor: Actor): Promise<Outcome> {
  const content = actor.random.pick(CONTENTS);
  const maxTokens = actor.random.between(1, 20);
  return askModel(sim, actor, {
    path: '/v1/chat/completions',
    body: {
      model: model(sim, actor),
      temperature: 0,
      messages: [{ role: 'user', content }],
      max_tokens: maxTokens,
      n: 2,
    },
    headers: sameIds(actor),
    mostTokens: 2 * maxTokens,
    read: ({ json }) => {
      const { choices } = json as { choices: { message: { content: string | null } }[] };
      return { said: JSON.stringify(choices.map(({ message }) => message.content ?? '')) };
    },
    right: (chain) => {
      const { text: one } = sim.oracle.answer({ content, chain, maxTokens });
      return JSON.stringify([one, one]);
    },
  });
}

/** Raw texts, several in one request. */
async function completeTexts(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random } = actor;
  const prompts = Array.from({ length: random.between(1, 3) }, () =>
    random.pick(['hello', 'it is', 'once upon a time']),
  );
  const maxTokens = random.between(1, 12);
  const n = random.between(1, 2);
  const echo = random.chance(0.3);
  const stream = random.chance(0.5);
  const read: Read = (answer) => {
    const texts = Array.from({ length: prompts.length * n }, () => '');
    const events = stream ? eventsOf(answer.text) : [answer.json];
    for (const event of events ?? []) {
      const { error, choices = [] } = (event ?? {}) as {
        error?: { code: string };
        choices?: { index: number; text: string }[];
      };
      if (error !== undefined) return { error: error.code };
      for (const choice of choices) texts[choice.index] += choice.text;
    }
    return events === null || (stream && events.at(-1) !== null) ? null : { said: JSON.stringify(texts) };
  };
  return askModel(sim, actor, {
    path: '/v1/completions',
    body: {
      model: model(sim, actor),
      prompt: prompts.length === 1 ? prompts[0] : prompts,
      max_tokens: maxTokens,
      temperature: 0,
      n,
      echo,
      stream,
    },
    mostTokens: prompts.length * n * maxTokens,
    read,
    right: (chain) =>
      JSON.stringify(
        prompts.flatMap((prompt) => {
          const answer = sim.oracle.answer({ prompt, chain, maxTokens }).text;
          return Array.from({ length: n }, () => (echo ? prompt : '') + answer);
        }),
      ),
  });
}

/** Numbers of vectors as they are compared. */
const rounded = (vectors: readonly (readonly number[])[]): string =>
  JSON.stringify(
    vectors.map((vector) => vector.map((value) => value.toFixed(4).replace(/^-(0\.0+)$/, '$1'))),
  );

const floatsIn = (base64: string): number[] => {
  const bytes = Buffer.from(base64, 'base64');
  return Array.from({ length: bytes.length / 4 }, (_, at) => bytes.readFloatLE(at * 4));
};

async function embed(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random } = actor;
  const input = Array.from({ length: random.between(1, 4) }, () => 'hello '.repeat(random.between(1, 40)));
  const pooling = random.pick(['mean', 'last'] as const);
  const format = random.pick(['float', 'base64']);
  return askModel(sim, actor, {
    path: '/v1/embeddings',
    body: { model: model(sim, actor), input, pooling, encoding_format: format },
    mostTokens: 0,
    read: ({ json }) => {
      const { data } = json as { data: { index: number; embedding: number[] | string }[] };
      if (data.length !== input.length || data.some(({ index }, at) => index !== at)) return null;
      return {
        said: rounded(
          data.map(({ embedding }) => (typeof embedding === 'string' ? floatsIn(embedding) : embedding)),
        ),
      };
    },
    right: (chain) => rounded(input.map((one) => sim.oracle.embed({ text: one, chain, pooling }))),
  });
}

/** Tells the model what a function returned that it called, and lets it call more. */
async function answerCall(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random } = actor;
  const form = random.pick(CALLING);
  const given = { of: 'buy', page: random.between(1, 5) };
  const content = random.pick(CONTENTS);
  const result = `page ${given.page}`;
  const id = 'call_1';
  const maxTokens = random.between(20, 100);
  return askModel(sim, actor, {
    path: '/v1/chat/completions',
    body: {
      model: model(sim, actor),
      temperature: 0,
      max_tokens: maxTokens,
      messages: [
        { role: 'user', content },
        {
          role: 'assistant',
          content: null,
          tool_calls: [
            { id, type: 'function', function: { name: 'list', arguments: JSON.stringify(given) } },
          ],
        },
        { role: 'tool', tool_call_id: id, content: result },
      ],
      ...form.body,
    },
    mostTokens: maxTokens,
    read: ({ json }) => {
      const { choices } = json as {
        choices: { message: { content: string | null; tool_calls?: { function: Call }[] } }[];
      };
      const { content: plain, tool_calls: calls = [] } = choices[0]?.message ?? { content: null };
      return { said: withCalls({ text: plain ?? '', calls: calls.map((call) => call.function) }) };
    },
    right: async (chain) => {
      const messages: TemplateMessage[] = [
        { role: 'user', content },
        { role: 'assistant', content: '', calls: [{ id, name: 'list', arguments: given }] },
        { role: 'tool', content: result, callId: id },
      ];
      const right = await sim.oracle.constrained({ messages, chain, maxTokens, ...askedForm(form) });
      return shownOf(form, right.text);
    },
  });
}

/** Tokens of a prompt, in the words of each API; no limit of tokens counts them. */
const COUNTS = {
  '/tokenize': {
    body: (content: string) => ({ prompt: content }),
    count: (json: unknown) => JSON.stringify((json as { tokens: number[] }).tokens),
    right: (sim: Simulation, content: string) => JSON.stringify(sim.oracle.encode({ prompt: content })),
  },
  '/v1/messages/count_tokens': {
    body: (content: string) => ({ messages: [{ role: 'user', content }] }),
    count: (json: unknown) => String((json as { input_tokens: number }).input_tokens),
    right: (sim: Simulation, content: string) => String(sim.oracle.encode({ content }).length),
  },
  '/v1/responses/input_tokens': {
    body: (content: string) => ({ input: content }),
    count: (json: unknown) => String((json as { input_tokens: number }).input_tokens),
    right: (sim: Simulation, content: string) => String(sim.oracle.encode({ content }).length),
  },
} as const;

async function countTokens(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random } = actor;
  const path = random.pick(Object.keys(COUNTS) as (keyof typeof COUNTS)[]);
  const content = 'hello '.repeat(random.between(1, 60));
  const { body, count, right } = COUNTS[path];
  const key = random.pick(liveKeys(sim, actor)).text;
  const answered = await sim.ask(actor, { path, key, body: { model: 'base', ...body(content) } });
  if (answered.kind === 'lost') return 'lost';
  if (answered.status !== 200) return 'refused';
  const [said, wanted] = [count(answered.json), right(sim, content)];
  if (said !== wanted) sim.fail('tokens are counted right', `${path} says ${said} instead of ${wanted}`);
  return 'done';
}

const hasLiveKey: Operation['possible'] = (sim, actor) => liveKeys(sim, actor).length > 0;

export const OTHER_APIS = {
  'ask for messages': {
    weight: 3,
    possible: hasLiveKey,
    run: (sim, actor) => askIn(sim, actor, '/v1/messages'),
  },
  'ask for a response': {
    weight: 3,
    possible: hasLiveKey,
    run: (sim, actor) => askIn(sim, actor, '/v1/responses'),
  },
  'ask for two answers': { weight: 2, possible: hasLiveKey, run: askForTwo },
  'complete texts': { weight: 3, possible: hasLiveKey, run: completeTexts },
  embed: { weight: 3, possible: hasLiveKey, run: embed },
  'answer a call': { weight: 2, possible: hasLiveKey, run: answerCall },
  'count tokens': { weight: 1, possible: hasLiveKey, run: countTokens },
} as const satisfies Record<string, Operation>;
