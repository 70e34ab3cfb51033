/** One tenant's grammar is made so that it takes long: what the others get meanwhile. */
import { expect, it } from 'vitest';
import type { Services } from '../../gpu-origin/http/origin-context.ts';
import { prepareGrammar } from '../../gpu-origin/http/completion-formats.ts';
import { GREEDY } from '../../gpu-origin/generation/sampler.ts';
import { GrammarService } from '../../gpu-origin/grammar/grammar-service.ts';
import type { AskedForm, StartGrammarWorker } from '../../gpu-origin/grammar/ports.ts';
import { startThreadWorker } from '../../gpu-origin/grammar/thread-worker.ts';
import { err } from '../../protocol/api-error.ts';
import { ChatCompletionRequest } from '../../protocol/completion.ts';
import { collect, rig, start } from '../gpu-origin/engine/harness.ts';
import { BYTE_TOKENS, END } from '../gpu-origin/grammar/byte-core.ts';
import { freeGrammar } from '../gpu-origin/grammar/fake-grammar-worker.ts';

const caller = (tenant: string) => ({ tenant, signal: new AbortController().signal });

it.each([
  { guided_regex: '((x?){100}){100}' },
  { guided_choice: Array.from({ length: 500 }, (_, at) => `${at}${'x'.repeat(100)}`) },
  { guided_grammar: 'root ::= s\ns ::= s s | ""' },
  { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { pattern: '(' } } } },
  { tools: [{ type: 'function', function: { name: 'f', parameters: { pattern: '(' }, strict: true } }] },
])('nothing is made of $0 in the thread that answers all requests', async (form) => {
  const request = ChatCompletionRequest.parse({
    ...{ model: 'base', messages: [{ role: 'user', content: 'x' }] },
    ...form,
  });
  const seen: AskedForm[] = [];
  const grammars: Services['grammars'] = {
    prepare: async ({ asked }) => {
      // As data: another thread can have it.
      seen.push(structuredClone(asked));
      return err({ code: 'invalid_request', message: 'refused there', param: 'there' });
    },
    update: () => [],
    close: async () => undefined,
  };
  const prepared = await prepareGrammar(request, { grammars, chatTemplate: null }, caller('t'));
  expect(prepared).toMatchObject({ ok: false, error: { message: 'refused there' } });
  expect(seen).toHaveLength(1);
});

/** Of the test: it has real work to do, on machines that may be busy. */
const TIMEOUT_MS = 240_000;

/** A mask counts as if it took so many times as long: so the test needs two seconds of CPU time and not ten. */
const SLOWER = 5;

it(
  'an ambiguous grammar ends by itself, and others get their tokens meanwhile',
  { timeout: TIMEOUT_MS },
  async () => {
    const startWorker: StartGrammarWorker = async (params) => {
      const worker = await startThreadWorker(params);
      const step = worker.step.bind(worker);
      worker.step = async (rows) => {
        const stepped = await step(rows);
        return { ...stepped, rows: stepped.rows.map(({ failure, ms }) => ({ failure, ms: ms * SLOWER })) };
      };
      return worker;
    };
    const grammars = new GrammarService({ startWorker, tokens: BYTE_TOKENS, now: () => performance.now() });
    /** Others' tokens since the attacker's last one, and the most that there were between two of its. */
    let [since, most] = [0, 0];
    const built = rig({
      masks: grammars,
      observer: {
        onToken({ tenant }) {
          if (tenant !== 'other') [since, most] = [0, Math.max(since, most)];
          else since += 1;
        },
        onFirstToken: () => (since = 0),
      },
      runner: { slots: 4, context: 4_096, vocabSize: END + 1 },
      tokens: { bytes: (id) => Uint8Array.of(id), isSpecial: (id) => id === END },
      eosTokenIds: [END],
    });
    const nullable = await grammars.prepare({
      asked: freeGrammar('root ::= s\ns ::= s s s | s s | [a-z] | ""'),
      caller: caller('attacker'),
    });
    expect(nullable).toMatchObject({
      ok: false,
      error: { code: 'invalid_request', param: 'guided_grammar' },
    });
    const asked = freeGrammar('root ::= s\ns ::= s s s | s s | [a-z]');
    const prepared = await grammars.prepare({ asked, caller: caller('attacker') });
    if (!prepared.ok) throw new Error(prepared.error.message);
    const sampling = { ...GREEDY, maxTokens: 3_000, ignoreEos: true };
    const slow = await start(built.engine, { tenant: 'attacker', grammar: prepared.value, sampling });
    prepared.value.release();
    const slowEnd = collect(slow);
    let ended = false;
    void slowEnd.then(() => (ended = true));
    while (!ended) {
      const one = await start(built.engine, { tenant: 'other', sampling: { ...sampling, maxTokens: 500 } });
      expect((await collect(one)).ids).toHaveLength(500);
    }
    expect((await slowEnd).final).toMatchObject({
      kind: 'error',
      error: { code: 'invalid_request', message: expect.stringContaining('too long per token') as string },
    });
    // Steps that had waited for the slow row would have given it as many.
    expect(most).toBeGreaterThan(2);
    await built.engine.close();
    await grammars.close();
  },
);
