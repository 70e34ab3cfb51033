/** Training of classification heads: gradients against PyTorch (test/fixtures/make-classifier-reference.py), and rows. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createChatTemplate } from '../../../gpu-origin/model/chat-template.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import type { Device } from '../../../gpu-origin/runtime/device.ts';
import { openDevice } from '../../../gpu-origin/runtime/open-device.ts';
import { makeBatches } from '../../../gpu-origin/training/batches.ts';
import { encodeRows } from '../../../gpu-origin/training/rows.ts';
import { parseRows, type RowFormat } from '../../../protocol/training-rows.ts';
import { seeded, TINY_SHAPES } from '../../fixtures/tiny-base.ts';
import {
  asBatch,
  type Form,
  gradientDifferences,
  type TrainingCase,
  withTinyTrainer,
} from '../../fixtures/training-references.ts';
import { tinyMetadata } from '../model-tokenizer/tiny-tokenizer.ts';

interface Trained {
  family: string;
  lengths: number[];
  labels: number[];
  weights: number[];
  nll: number[];
  head: number[];
  gradients: TrainingCase['gradients'];
}
/** Of one output, by transformers' own losses. */
interface Scored extends Omit<Trained, 'labels'> {
  problem_type: 'regression' | 'multi_label_classification';
  targets: number[];
}
const { size, trained, scored } = JSON.parse(
  readFileSync(new URL('../../fixtures/tiny-classifier-reference.json', import.meta.url), 'utf8'),
) as { size: number; trained: Trained[]; scored: Scored[] };

/** As in gradients.test.ts. */
const GRADIENT = 1e-4;
const LENGTH = 48;
const CLASSES = 3;

/** Rows padded on the right; the last token of each has its class. */
function batchOf({ lengths, labels, weights }: Pick<Trained, 'lengths' | 'labels' | 'weights'>) {
  const whole = { tokens: [] as number[], labels: [] as number[], weights: [] as number[] };
  for (const [row, length] of lengths.entries())
    for (let i = 0; i < LENGTH; i += 1) {
      const last = i === length - 1;
      whole.tokens.push(i < length ? 3 + ((i * i * 37 + i * 11 + row) % 256) : 0);
      whole.labels.push(last ? labels[row]! : -1);
      whole.weights.push(last ? weights[row]! : 0);
    }
  return asBatch({ rows: lengths.length, length: LENGTH, ...whole });
}

describe.each(['cpu', 'web'] as const)('gradients by %s', (provider) => {
  let device: Device;
  beforeAll(async () => {
    ({ device } = await openDevice({ provider, threads: 2 }));
  });
  afterAll(() => device.close());

  it.each(trained.flatMap((one) => (['f32', 'rotated'] as Form[]).map((form) => ({ ...one, form }))))(
    'match PyTorch: $family, $form',
    async ({ form, ...one }) => {
      const { hidden } = TINY_SHAPES[one.family]!;
      const random = seeded(77);
      const head = Float32Array.from({ length: CLASSES * hidden }, () => size * random());
      const wanted = { family: one.family, below: [] };
      await withTinyTrainer(wanted, { form, device, head }, async (trainer, parameters) => {
        const batch = batchOf(one);
        const scores = await trainer.accumulate(batch);
        const nll = [...scores.nll].filter((_, at) => batch.labels[at]! >= 0);
        nll.forEach((value, at) => expect(Math.abs(value - one.nll[at]!)).toBeLessThan(1e-4));
        const own = parameters.pop()!;
        const norm = Math.hypot(...one.head);
        one.head.forEach((value, at) =>
          expect(Math.abs(value - own.gradient[at]!) / norm).toBeLessThan(GRADIENT),
        );
        const differences = gradientDifferences(parameters, one.gradients);
        for (const [name, difference] of differences) expect(difference, name).toBeLessThan(GRADIENT);
        parameters.push(own);
        // Scoring gives the same, and no gradients.
        own.gradient.fill(0);
        const again = await trainer.score(batch);
        expect(again).toEqual(scores);
        expect(own.gradient.every((value) => value === 0)).toBe(true);
      });
    },
  );
});

describe('a head of one output', () => {
  let device: Device;
  beforeAll(async () => {
    ({ device } = await openDevice({ provider: 'cpu', threads: 2 }));
  });
  afterAll(() => device.close());

  it.each(scored.flatMap((one) => (['f32', 'rotated'] as Form[]).map((form) => ({ ...one, form }))))(
    'has transformers’ loss and gradients: $problem_type, $family, $form',
    async ({ form, problem_type: problemType, targets, ...one }) => {
      const { hidden } = TINY_SHAPES[one.family]!;
      const random = seeded(78);
      const head = Float32Array.from({ length: hidden }, () => size * random());
      const wanted = { family: one.family, below: [] };
      await withTinyTrainer(wanted, { form, device, head, problemType }, async (trainer, parameters) => {
        const batch = {
          ...batchOf({ ...one, labels: targets.map(() => 0) }),
          targets: Float32Array.from(targets),
        };
        const scores = await trainer.accumulate(batch);
        const nll = [...scores.nll].filter((_, at) => batch.labels[at]! >= 0);
        nll.forEach((value, at) =>
          expect(Math.abs(value - one.nll[at]!) / (1 + one.nll[at]!)).toBeLessThan(1e-4),
        );
        const own = parameters.pop()!;
        const norm = Math.hypot(...one.head);
        one.head.forEach((value, at) =>
          expect(Math.abs(value - own.gradient[at]!) / norm).toBeLessThan(GRADIENT),
        );
        const differences = gradientDifferences(parameters, one.gradients);
        expect(differences.size).toBeGreaterThan(0);
        for (const [name, difference] of differences) expect(difference, name).toBeLessThan(GRADIENT);
        parameters.push(own);
      });
    },
  );
});

describe('rows with a score', () => {
  const tokenizer = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata() });
  const parse = (text: string, format: RowFormat = 'jsonl') =>
    parseRows({ bytes: new TextEncoder().encode(text), format, method: 'sft' });

  it('become what a request reads, a pair as it is joined there, and their number the target', () => {
    const lines = [
      { text: 'fever', score: 0.25 },
      { query: 'fe', document: 'ver', score: -3 },
      { messages: [{ role: 'user', content: 'fever' }], score: 1 },
    ];
    const { rows, problems } = parse(lines.map((one) => JSON.stringify(one)).join('\n'));
    expect(problems).toEqual([]);
    const template = createChatTemplate(tokenizer);
    const encoded = encodeRows(rows, { tokenizer, template, maxLength: 400 });
    const sequences = encoded.rows.map(({ sequences: [one] }) => one!);
    expect(sequences.map(({ target, labels }) => [target, labels.at(-1)])).toEqual([
      [0.25, 0],
      [-3, 0],
      [1, 0],
    ]);
    expect(sequences[1]!.tokens).toEqual(sequences[0]!.tokens);
    const batches = makeBatches(encoded.rows, { buckets: [64], mostTokens: 999, mostScores: 99_999 });
    expect(batches.map(({ targets }) => [...(targets ?? [])])).toEqual([[0.25, -3, 1]]);
  });

  it('come from CSV, too, whose other columns stay texts', () => {
    const { rows, problems } = parse('query,document,score\n1,2,0.5\n"a, b",c,-1e1\n', 'csv');
    expect(problems).toEqual([]);
    expect(rows.map(({ conversations, score }) => [conversations[0], score])).toEqual([
      [{ prompt: '12', completion: '' }, 0.5],
      [{ prompt: 'a, bc', completion: '' }, -10],
    ]);
    expect(parse('text,score\na,high\n', 'csv').problems[0]?.problem).toContain("'score': must be a number");
  });

  it.each([
    [{ text: 'a', score: 1, label: 'b' }, /has a 'label' or a 'score', not both/],
    [{ text: 'a', score: '1' }, /'score': must be a number/],
    [{ text: 'a', score: 1e7 }, /'score': must be from -1000000 to 1000000/],
    [{ query: 'a', score: 1 }, /A pair needs 'query' and 'document'/],
    [{ text: 'a', query: 'b', document: 'c', score: 1 }, /needs either/],
    [{ score: 1 }, /needs either/],
  ])('are refused: %j', (value, problem) => {
    expect(parse(JSON.stringify(value)).problems[0]?.problem).toMatch(problem);
  });
});

describe('rows with a label', () => {
  const tokenizer = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata() });
  const template = createChatTemplate(tokenizer);
  const parse = (text: string, format: RowFormat = 'jsonl') =>
    parseRows({ bytes: new TextEncoder().encode(text), format, method: 'sft' });
  const row = (value: object): string => JSON.stringify(value);

  it('become what a request reads, and their last token has the class', () => {
    const messages = [{ role: 'user', content: 'hello' }];
    const lines = [
      row({ text: 'hello', label: 'b' }),
      row({ prompt: 'hello', label: 'a' }),
      row({ messages, label: 'b' }),
    ];
    const { rows, problemCount } = parse(lines.join('\n'));
    expect(problemCount).toBe(0);
    const encoded = encodeRows(rows, { tokenizer, template, maxLength: 400, classes: ['a', 'b'] });
    expect(encoded.leftOut).toEqual([]);
    const sequences = encoded.rows.map(({ sequences: [one] }) => one!);
    const text = [...tokenizer.prefixIds, ...tokenizer.encode('hello', { allowSpecial: false })];
    expect([...sequences[0]!.tokens]).toEqual(text);
    expect(sequences[1]!.tokens).toEqual(sequences[0]!.tokens);
    const chat = [...sequences[2]!.tokens];
    expect(chat.length).toBeGreaterThan(text.length);
    expect(
      sequences.map(({ labels }) => [labels.at(-1), labels.filter((label) => label >= 0).length]),
    ).toEqual([
      [1, 1],
      [0, 1],
      [1, 1],
    ]);
  });

  it('take whole numbers and truths as labels, also from CSV', () => {
    const lines = [row({ text: 'a', label: 1 }), row({ text: 'b', label: true })].join('\n');
    expect(parse(lines).rows.map(({ label }) => label)).toEqual(['1', 'true']);
    const csv = parse('text,label\nI am ill,urgent\n"When, then?",later\n', 'csv');
    expect([csv.problems, csv.rows.map(({ label }) => label)]).toEqual([[], ['urgent', 'later']]);
  });

  it.each([
    [{ label: 'a' }, /needs either 'text', 'prompt', 'messages', or 'query'/],
    [{ text: 'a', prompt: 'b', label: 'a' }, /needs either/],
    [{ text: '', label: 'a' }, /'text': must not be empty/],
    [{ text: 'a', label: '' }, /'label': Too small/],
    [{ text: 'a', label: 1.5 }, /'label': must be a text/],
    [{ text: 'a', label: 'b', completion: 'c' }, /Unknown field 'completion'/],
  ])('are refused: %j', (value, problem) => {
    expect(parse(row(value)).problems[0]?.problem).toMatch(problem);
  });

  it('are no pairs', () => {
    const bytes = new TextEncoder().encode(row({ text: 'a', label: 'b' }));
    const { problems } = parseRows({ bytes, format: 'jsonl', method: 'dpo' });
    expect(problems[0]?.problem).toContain("only the method 'sft' learns");
  });
});
