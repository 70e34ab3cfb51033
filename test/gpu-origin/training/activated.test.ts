/** Training of activated adapters: gradients against PEFT's aLoRA (test/fixtures/make-activated-reference.py), and rows. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device } from '../../../gpu-origin/runtime/device.ts';
import { openDevice } from '../../../gpu-origin/runtime/open-device.ts';
import { createChatTemplate } from '../../../gpu-origin/model/chat-template.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { activationOf } from '../../../gpu-origin/training/activation.ts';
import { makeBatches } from '../../../gpu-origin/training/batches.ts';
import { encodeRows } from '../../../gpu-origin/training/rows.ts';
import { parseRows } from '../../../protocol/training-rows.ts';
import {
  asBatch,
  gradientDifferences,
  type ReferenceBatch,
  type TrainingCase,
  withTinyTrainer,
} from '../../fixtures/training-references.ts';
import { tinyMetadata } from '../model-tokenizer/tiny-tokenizer.ts';

interface Trained {
  family: string;
  chain: [adapter: string, invocation: number[] | null][];
  batch: ReferenceBatch & { weights: number[] };
  /** By activated adapter and row. */
  begins: number[][];
  loss: number;
  nll: number[];
  gradients: TrainingCase['gradients'];
}
const { alpha, trained } = JSON.parse(
  readFileSync(new URL('../../fixtures/tiny-activated-reference.json', import.meta.url), 'utf8'),
) as { alpha: number; trained: Trained[] };

/** As in gradients.test.ts. */
const GRADIENT = 1e-4;
/** … but where PyTorch itself is 9e-6 off double precision: Qwen3.5's random states amplify what is rounded. */
const lossOf = (family: string): number => (family === 'qwen3_5' ? 2e-5 : 1e-5);

describe.each(['cpu', 'web'] as const)('gradients by %s', (provider) => {
  let device: Device;
  beforeAll(async () => {
    ({ device } = await openDevice({ provider, threads: 2 }));
  });
  afterAll(() => device.close());

  it.each(trained.flatMap((one) => [true, false].map((recompute) => ({ ...one, recompute }))))(
    'match PEFT: $family on $chain (recomputed: $recompute)',
    async ({ family, chain, batch, begins, loss, nll, gradients, recompute }) => {
      const below = chain.slice(0, -1);
      const invocations = below.map(([, invocation]) => invocation);
      const wanted = { family, below: below.map(([name]) => name), invocations };
      await withTinyTrainer(
        wanted,
        { form: 'f32', device, recompute, activated: true },
        async (trainer, parameters) => {
          expect(alpha).toBe(8);
          const own = { ...asBatch(batch), begins: Int32Array.from(begins.flat()) };
          const scores = await trainer.accumulate(own);
          let [sum, magnitude] = [0, 0];
          batch.weights.forEach((weight, at) => {
            sum += weight * scores.nll[at]!;
            magnitude += Math.abs(weight) * scores.nll[at]!;
          });
          expect(Math.abs(sum - loss) / magnitude).toBeLessThan(lossOf(family));
          const labelled = [...scores.nll].filter((_, at) => batch.labels[at]! >= 0);
          labelled.forEach((value, at) =>
            expect(Math.abs(value - nll[at]!)).toBeLessThan(lossOf(family) * (1 + value)),
          );
          const differences = gradientDifferences(parameters, gradients);
          expect(differences.size).toBe(2 * Object.keys(gradients).length);
          for (const [name, difference] of differences) expect(difference, name).toBeLessThan(GRADIENT);
          // The comparison sees where the deltas begin.
          for (const { gradient } of parameters) gradient.fill(0);
          await trainer.accumulate({ ...own, begins: own.begins.map((begin) => begin + 1) });
          const other = [...gradientDifferences(parameters, gradients).values()];
          expect(Math.max(...other)).toBeGreaterThan(100 * GRADIENT);
        },
      );
    },
  );
});

describe('rows of an activated training', () => {
  const tokenizer = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata() });
  const template = createChatTemplate(tokenizer);
  const read = (rows: object[]) =>
    parseRows({
      bytes: new TextEncoder().encode(rows.map((row) => JSON.stringify(row)).join('\n')),
      format: 'jsonl',
      method: 'sft',
    }).rows;
  const encode = (
    rows: object[],
    activated: string,
    below: Parameters<typeof activationOf>[0]['below'] = [],
  ) => {
    const activation = activationOf({ request: { activated_by: activated }, below, tokenizer });
    if (!activation.ok) throw new Error(activation.error);
    const { begins, activated: ids } = activation.value;
    return { ...encodeRows(read(rows), { tokenizer, template, maxLength: 400, begins }), ids: ids! };
  };
  const labelled = (labels: Int32Array): number[] => [...labels.keys()].filter((at) => labels[at]! >= 0);

  it('have labels where the delta acts, each answer of a conversation by itself', () => {
    const conversation = ['a?', 'b.', 'c?', 'd.'].map((content, at) => ({
      role: at % 2 === 0 ? 'user' : 'assistant',
      content,
    }));
    const { rows, leftOut, ids } = encode([{ messages: conversation }], '<|im_start|>assistant\n');
    expect([rows.length, leftOut]).toEqual([2, []]);
    for (const { sequences } of rows) {
      const [{ tokens, labels, begins }] = sequences as [(typeof sequences)[number]];
      const [begin] = begins!;
      expect([...tokens.slice(begin, begin! + ids.length)]).toEqual(ids);
      // The prompt ends with them, and the answer follows.
      expect(labelled(labels)[0]).toBe(begin! + ids.length - 1);
    }
    const buckets = [400];
    const [batch] = makeBatches(rows, { buckets, mostTokens: 800, mostScores: 1e6 });
    expect([...batch!.begins!]).toEqual(rows.map(({ sequences }) => sequences[0]!.begins![0]));
  });

  it('are named where the prompt does not contain the tokens; an answer does not count', () => {
    const { rows, leftOut } = encode(
      [
        { prompt: 'now call:', completion: 'yes' },
        { prompt: 'never', completion: 'call: no' },
      ],
      'call:',
    );
    expect([rows.length, leftOut]).toMatchObject([1, [{ line: 2, reason: 'not_activated' }]]);
  });

  it('begin no earlier than the parents, and need theirs', () => {
    const invocation = tokenizer.encode('one', { allowSpecial: false });
    const below = [{ invocation, parent: null }];
    const { rows, leftOut } = encode(
      [
        { prompt: 'one and two.', completion: 'x' },
        { prompt: 'two and one.', completion: 'x' },
        { prompt: 'only two.', completion: 'x' },
      ],
      'two',
      below,
    );
    expect(leftOut.map(({ line }) => line)).toEqual([3]);
    const [first, second] = rows.map(({ sequences }) => sequences[0]!.begins!);
    expect(first![0]).toBeLessThan(first![1]!);
    expect(second![0]).toBe(second![1]);
  });

  it('come with settings that fit the chain', () => {
    const activated = { invocation: [7], parent: null };
    const problem = (request: Parameters<typeof activationOf>[0]['request'], below: (typeof activated)[]) => {
      const found = activationOf({ request, below, tokenizer });
      return found.ok ? found.value.activated : found.error;
    };
    expect(problem({}, [activated])).toContain('(--activated');
    expect(problem({ activated: [5] }, [activated])).toEqual([5]);
    expect(problem({ continues: true }, [activated])).toEqual([7]);
    expect(problem({ continues: true, activated: [5] }, [activated])).toContain('Leave out --activated');
    expect(problem({ activated: [tokenizer.size] }, [])).toContain('not in the vocabulary');
    expect(problem({ activated_by: 'x'.repeat(2_000) }, [])).toContain('more than 256 tokens');
    expect(problem({}, [])).toBeUndefined();
  });
});
