/** The program that trains, as `graft train` starts it: its events, its failures, and its end by a signal. */
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  packAdapter,
  parseCanonical,
  parseSafetensors,
  readAdapter,
  sumAdapters,
  writeSafetensors,
} from '../../adapters/index.ts';
import { TRAINABLE, type TrainingFailure, type TrainingRequest } from '../../protocol/training.ts';
import {
  TINY_ADAPTERS,
  TINY_PHI3,
  TINY_GEMMA4_E2B,
  TINY_QWEN3_5,
  TINY_QWEN3MOE,
  TINY_QWEN,
  writeTinyAdapter,
  writeTinyBase,
} from '../fixtures/tiny-base.ts';
import {
  type ProgramEnd,
  type ProgramOptions,
  readResult,
  runProgram,
  startProgram,
  TINY_ROWS,
  writeRows,
} from '../fixtures/training-program.ts';
import { HANG_MS } from '../setup/slow.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';

let folder: string;
const CHECKPOINT = 'checkpoint.safetensors';
const workOf = (work: string): string => join(folder, work);
const checkpointOf = (work: string): Buffer => readFileSync(join(workOf(work), CHECKPOINT));

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'graft-program-'));
  writeTinyBase(join(folder, 'base'));
  writeRows(join(folder, 'rows.jsonl'), TINY_ROWS);
});
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

const run = (options: Omit<ProgramOptions, 'folder'> = {}): Promise<ProgramEnd> =>
  runProgram({ folder, ...options });
const start = (options: Omit<ProgramOptions, 'folder'> = {}) => startProgram({ folder, ...options });

const order = ({ events }: ProgramEnd): string => events.map(({ event }) => event).join(' ');

it('reports rows, a plan, steps, scores and the result, in this order', async () => {
  const end = await run({ work: 'order', request: { least_steps: 20 } });
  expect(end).toMatchObject({ code: 0, signal: null });
  expect(order(end)).toMatch(/^rows held_out plan( step( held_out)?)+ saved ready$/);
  const [rows] = end.events;
  expect(rows).toMatchObject({ event: 'rows', trained: 8, held_out: 4, left_out: 0, longest: 13 });
  const ready = end.events.at(-1);
  expect(ready).toMatchObject({ event: 'ready', folder: join(folder, 'order/adapter') });
  expect(readResult(workOf('order'))).not.toBeNull();
  expect(readdirSync(workOf('order')).sort()).toEqual(['adapter', CHECKPOINT]);
});

it('scores the rows of another file, and trains on all of its own', async () => {
  const heldOut = TINY_ROWS.slice(0, 3).map(({ prompt }) => ({ prompt, completion: 'another answer' }));
  writeRows(join(folder, 'held-out.jsonl'), heldOut);
  const more = ['--validation', join(folder, 'held-out.jsonl')];
  const end = await run({ work: 'held-out', more });
  expect(end.code).toBe(0);
  expect(end.events[0]).toMatchObject({ event: 'rows', trained: 12, held_out: 3 });
  const { card, weights } = readResult(workOf('held-out'))!;
  expect(card.rows).toMatchObject({
    held_out: 3,
    held_out_sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
  });
  expect(card.scores?.rows).toBe(3);
  // They are scored alone: without them the bytes are the same, but a checkpoint is another training's.
  expect((await run({ work: 'alone', request: { validation: 0 } })).code).toBe(0);
  expect(readResult(workOf('alone'))?.weights).toEqual(weights);
  const resumed = await run({ work: 'alone', request: { validation: 0 }, more: [...more, '--resume'] });
  expect(resumed.events.at(-1)).toMatchObject({ event: 'failed', code: 'checkpoint_mismatch' });
  writeFileSync(join(folder, 'held-out.jsonl'), '{"prompt":"a"}\n');
  const bad = await run({ work: 'bad-held-out', more });
  expect(bad.events.at(-1)).toMatchObject({ event: 'failed', code: 'rows_invalid' });
  expect((bad.events.at(-1) as { message: string }).message).toMatch(/^validation file, line 1: /);
});

it.each([
  ['share keys and values and have embeddings of their own', 'gemma4_e2b', TINY_GEMMA4_E2B],
  ['have experts', 'qwen3moe', TINY_QWEN3MOE],
] as const)('trains on a base whose layers %s', async (_what, base, shape) => {
  writeTinyBase(join(folder, base), shape);
  const more = ['--weights', 'int8'];
  const request: Partial<TrainingRequest> = { targets: [...TRAINABLE], least_steps: 20, rate: 0.01 };
  const end = await run({ base, work: base, more, request });
  expect(end).toMatchObject({ code: 0, signal: null });
  const losses = end.events.flatMap((event) => (event.event === 'step' ? [event.loss] : []));
  expect(losses.at(-1)).toBeLessThan(0.8 * losses[0]!);
});

const NAMED = ['--base-id', 'tiny-base'];

it('adds what it trained to the adapter that it continues, exactly, and lies on what is below', async () => {
  writeTinyAdapter(join(folder, 'live'), TINY_ADAPTERS['attention']!);
  const weightsPath = join(folder, 'live/adapter_model.safetensors');
  const { bytes } = await packAdapter({
    files: {
      weights: new Uint8Array(readFileSync(weightsPath)),
      configJson: readFileSync(join(folder, 'live/adapter_config.json'), 'utf8'),
      weightsPath,
    },
    baseId: 'tiny-base',
    parentChainId: null,
  });
  const path = join(folder, 'live.safetensors');
  writeFileSync(path, bytes);
  const chain = [{ digest: createHash('sha256').update(bytes).digest('hex'), scale: 1, path }];
  const fine = { code: 0, signal: null };
  expect(await run({ work: 'child', chain, more: NAMED })).toMatchObject(fine);
  const options = { chain, request: { continues: true }, more: [...NAMED, '--pack'] };
  for (const work of ['next', 'next-again']) expect(await run({ ...options, work })).toMatchObject(fine);
  expect(readResult(workOf('next'))).toEqual(readResult(workOf('next-again')));
  const [child, next] = [readResult(workOf('child'))!, readResult(workOf('next'))!];
  const modulesOf = ({ weights }: { weights: Uint8Array }, work: string) =>
    readAdapter({
      weights: new Uint8Array(weights),
      configJson: readFileSync(join(workOf(work), 'adapter/adapter_config.json'), 'utf8'),
    }).modules;
  const sum = sumAdapters([
    { modules: parseCanonical(bytes).modules, scale: 1 },
    { modules: modulesOf(child, 'child'), scale: 1 },
  ]);
  const found = [...modulesOf(next, 'next')].sort((a, b) => (a.name < b.name ? -1 : 1));
  expect(found.map(({ name, rank, a, b }) => ({ name, rank, a, b }))).toEqual(
    sum.map(({ name, rank, a, b }) => ({ name, rank, a, b })),
  );
  const rank = Math.max(...sum.map((module) => module.rank));
  expect(next.card.continued).toEqual({ sum_rank: rank, rank, relative_error: 0 });
  const packed = new Uint8Array(readFileSync(join(workOf('next'), 'packed.safetensors')));
  expect(parseCanonical(packed).config.parent).toBeNull();
});

it('trains through linear attention, in int8, the linears that are asked for', async () => {
  writeTinyBase(join(folder, 'qwen3_5'), TINY_QWEN3_5);
  const request = { targets: [...TRAINABLE], least_steps: 30 };
  expect((await run({ base: 'qwen3_5', work: 'linear', request })).code).toBe(0);
  const { card, weights } = readResult(workOf('linear'))!;
  expect(card.scores!.loss).toBeLessThan(card.scores!.loss_before);
  const [first] = card.curve!;
  expect(card.curve!.at(-1)![1]).toBeLessThan(first![1] / 2);
  const { tensors } = parseSafetensors(weights);
  // Two layers with five linears of their own, one with four, three of each MLP; A and B.
  expect(tensors.size).toBe(2 * (2 * 5 + 4 + 3 * 3));
  expect([...tensors.keys()].filter((name) => name.includes('linear_attn.in_proj_qkv'))).toHaveLength(4);
  expect((await run({ work: 'without', request: { targets: ['out_proj'] } })).events.at(-1)).toMatchObject({
    code: 'settings_invalid',
    message: expect.stringContaining('no linear layer that out_proj would train') as string,
  });
});

describe('an activated adapter', () => {
  /** `=>` in the tiny vocabulary: a token a byte, behind three special ones. */
  const TOKENS = [...'=>'].map((character) => 3 + character.charCodeAt(0));
  const activating = TINY_ROWS.map(({ prompt, completion }) => ({ prompt: `${prompt} =>`, completion }));
  const rowsOf = (rows: string, all: readonly object[]): { rows: string } => {
    writeRows(join(folder, rows), all);
    return { rows };
  };
  const failure = ({ events }: ProgramEnd) => events.at(-1) as { code: string; message: string };

  it('says from which tokens on it acts; what continues it says so too, and a child needs its own', async () => {
    const options = { more: [...NAMED, '--pack'], ...rowsOf('activated.jsonl', activating) };
    const request = { activated_by: '=>' };
    expect((await run({ ...options, work: 'activated', request })).code).toBe(0);
    const { card } = readResult(workOf('activated'))!;
    expect(card.settings).toMatchObject({ activated: TOKENS });
    expect(card.settings).not.toHaveProperty('activated_by');
    const config = readFileSync(join(workOf('activated'), 'adapter/adapter_config.json'), 'utf8');
    expect(JSON.parse(config)).toMatchObject({ alora_invocation_tokens: TOKENS });
    const path = join(workOf('activated'), 'packed.safetensors');
    const packed = new Uint8Array(readFileSync(path));
    expect(parseCanonical(packed).config.invocation).toEqual(TOKENS);
    const chain = [{ digest: createHash('sha256').update(packed).digest('hex'), scale: 1, path }];
    const next = await run({ ...options, work: 'activated-next', chain, request: { continues: true } });
    expect(next.code).toBe(0);
    const continued = new Uint8Array(readFileSync(join(workOf('activated-next'), 'packed.safetensors')));
    expect(parseCanonical(continued).config).toMatchObject({ invocation: TOKENS, parent: null });
    const child = await run({ ...options, work: 'activated-child', chain });
    expect(failure(child)).toMatchObject({ code: 'settings_invalid' });
    expect(failure(child).message).toContain('--activated');
  });

  it('names the rows whose prompts lack its tokens', async () => {
    const some = activating.map((row, at) => (at === 1 || at === 4 ? TINY_ROWS[at]! : row));
    const end = await run({
      work: 'silent',
      request: { activated: TOKENS },
      ...rowsOf('silent.jsonl', some),
    });
    expect(failure(end)).toMatchObject({ code: 'rows_invalid' });
    expect(failure(end).message).toMatch(/^line 2, 5: /);
  });
});

describe('keeps adapters of the last whole epochs, where that is asked', () => {
  const request = { epochs: 3 };
  const more = [...NAMED, '--pack'];
  const keptBelow = (work: string): string => join(workOf(work), 'kept');
  const runKeeping = (work: string, rest: Omit<ProgramOptions, 'folder'> = {}): Promise<ProgramEnd> =>
    run({ work, request, ...rest, more: [...more, '--checkpoints', keptBelow(work), ...(rest.more ?? [])] });
  const bytesOf = (work: string): string[] =>
    readdirSync(keptBelow(work))
      .filter((name) => name.endsWith('.safetensors'))
      .map(
        (name) =>
          `${name} ${createHash('sha256')
            .update(readFileSync(join(keptBelow(work), name)))
            .digest('hex')}`,
      )
      .sort();
  const packedOf = (work: string): Buffer => readFileSync(join(workOf(work), 'packed.safetensors'));

  it('with their cards, and makes the same result', async () => {
    const end = await runKeeping('kept');
    expect(end.code).toBe(0);
    const ready = end.events.at(-1);
    expect(ready).toMatchObject({
      event: 'ready',
      card: { steps: 12 },
      checkpoints: [{ steps: 4 }, { steps: 8 }],
    });
    const cards = ready?.event === 'ready' ? (ready.checkpoints ?? []) : [];
    for (const { curve, steps, scores, tokens } of cards) {
      const [step, , heldOut] = curve.at(-1)!;
      expect([step, scores?.rows]).toEqual([steps, 4]);
      // A curve is rounded.
      expect(heldOut).toBeCloseTo(scores!.loss, 3);
      const told = end.events.find((event) => event.event === 'step' && event.step === steps);
      expect(told).toMatchObject({ tokens });
    }
    expect(readdirSync(keptBelow('kept')).sort()).toEqual([
      ...['4.json', '4.safetensors', '8.json', '8.safetensors'],
    ]);
    const parsed = ['4', '8'].map((step) =>
      parseCanonical(new Uint8Array(readFileSync(join(keptBelow('kept'), `${step}.safetensors`)))),
    );
    for (const { config } of parsed) expect(config.parent).toBeNull();
    const result = packedOf('kept');
    expect(
      new Set([
        ...bytesOf('kept').map((line) => line.split(' ')[1]),
        createHash('sha256').update(result).digest('hex'),
      ]).size,
    ).toBe(3);
    // Without them nothing of it is different.
    expect((await run({ work: 'kept-none', request, more })).code).toBe(0);
    expect(packedOf('kept-none')).toEqual(result);
  });

  /** At the moment that the adapter of step 4 is to have its name. */
  const interrupted = (how: string): Record<string, string> => {
    const code = `
      import fs from 'node:fs';
      import { syncBuiltinESMExports } from 'node:module';
      const { renameSync } = fs;
      fs.renameSync = (from, to) => {
        if (!/4\\.safetensors$/.test(to)) return renameSync(from, to);
        ${how}
      };
      syncBuiltinESMExports();`;
    return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}` };
  };
  it.each([
    // The last step that was saved is the one before.
    ['is killed', "process.kill(process.pid, 'SIGKILL');", 'SIGKILL', ['--save-every', '0']],
    // Step 4 is saved, and its adapter is not there.
    ['is told to end', "process.emit('SIGTERM');", null, []],
  ] as const)('also if it %s while it writes one, with the same bytes', async (what, how, signal, flags) => {
    expect((await runKeeping('kept-whole')).code).toBe(0);
    const work = `kept-${what.replaceAll(' ', '-')}`;
    const cut = await runKeeping(work, { env: interrupted(how), more: flags });
    expect(cut.signal).toBe(signal);
    const saved = cut.events.findLast(({ event }) => event === 'saved');
    expect(saved).toEqual({ event: 'saved', step: signal === null ? 4 : 3 });
    expect(bytesOf(work)).toEqual([]);
    const end = await runKeeping(work, { more: ['--resume'] });
    expect(end.events.at(-1)).toMatchObject({ event: 'ready', checkpoints: [{ steps: 4 }, { steps: 8 }] });
    expect(bytesOf(work)).toEqual(bytesOf('kept-whole'));
    expect(packedOf(work)).toEqual(packedOf('kept-whole'));
    expect(readdirSync(keptBelow(work)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });
});

describe('ends with a failure that the command understands', () => {
  const fails = async (
    options: Omit<ProgramOptions, 'folder'>,
    code: TrainingFailure,
    message: RegExp,
    kept: number | null = null,
  ): Promise<void> => {
    const end = await run({ work: 'failing', ...options });
    expect(end.code).toBe(1);
    expect(end.events.at(-1)).toEqual({
      event: 'failed',
      code,
      message: expect.stringMatching(message) as string,
      kept_step: kept,
    });
    expect(readdirSync(workOf(options.work ?? 'failing')).filter((name) => name !== CHECKPOINT)).toEqual([]);
  };
  const rowsFile = (name: string, lines: readonly string[]): string => {
    writeFileSync(join(folder, name), lines.join('\n'));
    return name;
  };
  const FINE = '{"prompt":"a","completion":"b"}';

  it('rows_invalid, with the first lines', async () => {
    const rows = rowsFile('wrong.jsonl', [FINE, '{"prompt":"a"}', FINE, 'x', '{}', '[]', '1']);
    const first = /^line 2: .*; line 4: The line is not JSON\.; line 5: .*; and 2 more$/;
    await fails({ rows }, 'rows_invalid', first);
    const empty = rowsFile('empty.jsonl', [FINE, '{"prompt":"a","completion":""}']);
    await fails(
      { rows: empty },
      'rows_invalid',
      /^line 2: Invalid value for 'completion': must not be empty/,
    );
    const long = rowsFile('long.jsonl', [FINE, `{"prompt":"a","completion":"${'b'.repeat(2 ** 20)}"}`]);
    await fails({ rows: long }, 'rows_invalid', /^line 2: The row has more than 1048576 bytes\.$/);
  });

  it('no_rows, where all are too long', async () => {
    const row = `{"prompt":"a","completion":"${'b'.repeat(2 ** 20 - 100)}"}`;
    await fails(
      { rows: rowsFile('huge.jsonl', [row, row]) },
      'no_rows',
      /line 1: The row has more than 64 tokens/,
    );
  });

  it('no_rows, where all are longer than the context of the base, whatever is asked', async () => {
    const row = `{"prompt":"a","completion":"${'b'.repeat(600)}"}`;
    await fails(
      { rows: rowsFile('context.jsonl', [row]), request: { max_length: 4_096 } },
      'no_rows',
      /line 1: The row has more than 512 tokens/,
    );
  });

  it('settings_invalid', async () => {
    await fails({ request: { rank: 0 } }, 'settings_invalid', /rank/);
    await fails({ request: { alpha: 1e-300 } }, 'settings_invalid', /alpha 1e-300 over rank 4 is 0/);
    writeTinyBase(join(folder, 'phi3'), TINY_PHI3);
    await fails({ base: 'phi3', request: { targets: ['q'] } }, 'settings_invalid', /--targets all/);
    writeTinyBase(join(folder, 'qwen3moe'), TINY_QWEN3MOE);
    await fails({ base: 'qwen3moe', request: { targets: ['gate'] } }, 'settings_invalid', /--targets all/);
    await fails({ request: { continues: true } }, 'settings_invalid', /no adapter to continue/);
  });

  it('base_mismatch, where the base or a parent is another one', async () => {
    await fails({ base: 'nowhere' }, 'base_mismatch', /no such file or folder/);
    cpSync(join(folder, 'base'), join(folder, 'cut'), { recursive: true });
    truncateSync(join(folder, 'cut/model.safetensors'), 50_000);
    await fails({ base: 'cut' }, 'base_mismatch', /truncated|ends before|too short|bytes/);
    const path = join(folder, 'parent.safetensors');
    const { bytes, digest } = tinyAdapter({ seed: 5 });
    writeFileSync(path, bytes);
    const wrong = [{ digest: '0'.repeat(64), scale: 1, path }];
    await fails({ chain: wrong }, 'base_mismatch', /is not the file 000000000000 of the chain/);
    writeTinyBase(join(folder, 'qwen'), TINY_QWEN);
    await fails({ base: 'qwen', chain: [{ digest, scale: 1, path }] }, 'base_mismatch', /./);
  });

  it('out_of_memory, where a step gets none', async () => {
    const code = `
      const Real = ArrayBuffer;
      globalThis.ArrayBuffer = class extends Real {
        constructor(bytes, ...rest) {
          if (bytes === 12288) throw new RangeError('Array buffer allocation failed');
          super(bytes, ...rest);
        }
      };`;
    const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}` };
    await fails(
      { env },
      'out_of_memory',
      /^there is not enough memory \(memory: 0\.0 GB cannot be allocated at once\)$/,
    );
  });

  it('training_failed, where the rows are gone', async () => {
    await fails({ rows: 'nowhere.jsonl' }, 'training_failed', /ENOENT.*nowhere\.jsonl/);
  });

  it('loss_not_finite, where the base has infinite weights', async () => {
    cpSync(join(folder, 'base'), join(folder, 'infinite'), { recursive: true });
    const file = join(folder, 'infinite/model.safetensors');
    const { tensors, metadata } = parseSafetensors(new Uint8Array(readFileSync(file)));
    const norm = tensors.get('model.norm.weight')!;
    const data = new Uint8Array(new Float32Array(norm.data.length / 4).fill(Infinity).buffer);
    tensors.set('model.norm.weight', { ...norm, data });
    writeFileSync(file, writeSafetensors({ tensors, metadata }));
    const more = ['--weights', 'f32'];
    await fails({ base: 'infinite', more }, 'loss_not_finite', /held-out rows after step 0 is not a number/);
    const request = { validation: 0 };
    await fails(
      { base: 'infinite', more, request },
      'loss_not_finite',
      /step 1 is not a number \(rows at lines/,
    );
  });

  it('checkpoint_mismatch and checkpoint_damaged', async () => {
    const more = ['--resume'];
    await fails({ more, work: 'none' }, 'checkpoint_damaged', /^there is no /);
    await run({ work: 'other' });
    rmSync(join(workOf('other'), 'adapter'), { recursive: true });
    writeRows(join(folder, 'more.jsonl'), [...TINY_ROWS, { prompt: 'a', completion: 'b' }]);
    await fails({ more, work: 'other', rows: 'more.jsonl' }, 'checkpoint_mismatch', /other rows$/);
    const request = { rank: 2, seed: 3 };
    await fails({ more, work: 'other', request }, 'checkpoint_mismatch', /other settings \(rank, seed\)$/);
    truncateSync(join(workOf('other'), CHECKPOINT), 5_000);
    await fails({ more, work: 'other' }, 'checkpoint_damaged', /sha256/);
  });

  /** From the call `at` on, writes of a checkpoint or a result fail after half of their bytes. */
  const fullDisk = (at: number): Record<string, string> => {
    const code = `
      import fs from 'node:fs';
      import { syncBuiltinESMExports } from 'node:module';
      let calls = 0;
      const full = () => { throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' }); };
      const { openSync, writeSync, writeFileSync } = fs;
      const ours = new Set();
      fs.openSync = (path, ...rest) => {
        const fd = openSync(path, ...rest);
        if (/checkpoint.*tmp$/.test(path)) ours.add(fd);
        return fd;
      };
      fs.writeSync = (fd, bytes, ...rest) => {
        if (!ours.has(fd) || (calls += 1) < ${at}) return writeSync(fd, bytes, ...rest);
        writeSync(fd, bytes.subarray(0, bytes.length / 2));
        full();
      };
      fs.writeFileSync = (path, ...rest) => {
        if (!/adapter.*tmp/.test(path) || (calls += 1) < ${at}) return writeFileSync(path, ...rest);
        full();
      };
      syncBuiltinESMExports();`;
    return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}` };
  };

  it('disk_full, at the last checkpoint, at the result and at a signal', async () => {
    await fails({ work: 'full', env: fullDisk(1) }, 'disk_full', /^ENOSPC/);
    // Two writes make a checkpoint, three files a result.
    await fails({ work: 'full', env: fullDisk(2) }, 'disk_full', /^ENOSPC/);
    await fails({ work: 'full', env: fullDisk(4) }, 'disk_full', /^ENOSPC/, 12);
    const kept = checkpointOf('full');
    const more = ['--resume'];
    // Once more from there: the earlier checkpoint stays.
    const again = start({ work: 'full', env: fullDisk(1), request: { least_steps: 100_000 } });
    await again.sees('step');
    again.child.kill('SIGTERM');
    const end = await again.end;
    expect([end.code, end.events.at(-1)]).toMatchObject([1, { event: 'failed', code: 'disk_full' }]);
    expect(checkpointOf('full')).toEqual(kept);
    expect(readdirSync(workOf('full'))).toEqual([CHECKPOINT]);
    expect((await run({ work: 'full', more })).events.at(-1)).toMatchObject({ event: 'ready' });
  });

  it('training_failed, where a checkpoint is larger than a file may be; the one before stays', async () => {
    await run({ work: 'limit' });
    const kept = checkpointOf('limit');
    rmSync(join(workOf('limit'), 'adapter'), { recursive: true });
    await fails({ work: 'limit', mostFileSize: 8 }, 'training_failed', /^EFBIG/);
    expect(checkpointOf('limit')).toEqual(kept);
  });
});

describe('after SIGTERM', () => {
  /** Long enough to be stopped five times. */
  const request = { least_steps: 300 };

  it.each(['sft', 'dpo'] as const)('ends soon, and goes on to the same bytes: %s', async (method) => {
    const [rows, work] = [`${method}.jsonl`, `stops-${method}`];
    writeRows(
      join(folder, rows),
      method === 'sft'
        ? TINY_ROWS
        : TINY_ROWS.map(({ prompt, completion }) => ({ prompt, chosen: completion, rejected: 'no' })),
    );
    const options = { rows, request: { ...request, method } };
    expect(await run({ ...options, work: `whole-${method}` })).toMatchObject({ code: 0 });
    const wanted = readResult(workOf(`whole-${method}`));
    for (let stop = 0; stop < 5; stop += 1) {
      const resumes = readdirSync(folder).includes(work) && readdirSync(workOf(work)).includes(CHECKPOINT);
      const program = start({ ...options, work, more: resumes ? ['--resume'] : [] });
      // At first while it prepares.
      await program.sees(stop === 0 ? 'rows' : 'plan');
      await sleep(Math.random() * 100);
      const told = performance.now();
      program.child.kill('SIGTERM');
      const end = await program.end;
      expect(performance.now() - told).toBeLessThan(HANG_MS);
      const last = end.events.at(-1);
      expect(end).toMatchObject({ code: 0, signal: null });
      // On a machine that is fast enough.
      if (last?.event === 'ready') break;
      expect(last).toMatchObject({ event: 'stopped' });
      if (last?.event === 'stopped' && last.steps > 0)
        expect(end.events.at(-2)).toEqual({ event: 'saved', step: last.step });
      expect(readResult(workOf(work))).toBeNull();
    }
    expect(await run({ ...options, work, more: ['--resume'] })).toMatchObject({ code: 0 });
    expect(readResult(workOf(work))).toEqual(wanted);
  });

  it('ends while it reads very many rows, whose memory stays bounded', async () => {
    const rows = 'many.jsonl';
    writeRows(
      join(folder, rows),
      Array.from({ length: 20_000 }, (_, at) => ({ prompt: `question ${at}`, completion: `${at}` })),
    );
    const reading = start({ rows, work: 'many' });
    // It does not report before the rows are read: after its start there are a few hundred ms of it.
    await sleep(400);
    const told = performance.now();
    reading.child.kill('SIGTERM');
    const end = await reading.end;
    expect(performance.now() - told).toBeLessThan(HANG_MS);
    // At once, if it did not listen yet.
    expect([0, null]).toContain(end.code);
    const training = start({ rows, work: 'many', request: { validation: 0 } });
    await training.sees('plan');
    training.child.kill('SIGTERM');
    const { events } = await training.end;
    expect(events.at(-1)).toMatchObject({ event: 'stopped' });
    const plan = events.find(({ event }) => event === 'plan');
    expect(plan).toMatchObject({ steps: 5_000 });
    expect(plan?.event === 'plan' && plan.memory_bytes).toBeLessThan(500e6);
  });
});

describe('rows with a label', () => {
  const TOPICS = { weather: 'rain', food: 'bread', sport: 'ball' };
  const labelled = (count: number) =>
    Array.from({ length: count }, (_, at) => {
      const [label, word] = Object.entries(TOPICS)[at % 3]!;
      return { text: `${at % 7} ${word} ${at * 5}`, label };
    });
  const request = { least_steps: 40, batch: 8, rate: 1e-2, validation: 0.2 };
  const failure = ({ events }: ProgramEnd): unknown => events.at(-1);

  it('train a classification head along with the adapter, the same again after a stop', async () => {
    writeRows(join(folder, 'labels.jsonl'), labelled(60));
    const options = { rows: 'labels.jsonl', request, more: [...NAMED, '--pack'] };
    const end = await run({ ...options, work: 'labels' });
    expect(end.code).toBe(0);
    const before = end.events.find(({ event }) => event === 'held_out');
    // A head of zeros says nothing.
    expect(before).toMatchObject({ step: 0, loss: expect.closeTo(Math.log(3), 5) as number });
    const { card, weights } = readResult(workOf('labels'))!;
    expect(card.scores!.loss).toBeLessThan(0.2);
    expect(card.scores!.exact).toBe(card.scores!.rows);
    const of = (name: string): string => readFileSync(join(workOf('labels'), 'adapter', name), 'utf8');
    const read = readAdapter({
      ...{ weights, configJson: of('adapter_config.json'), modelConfigJson: of('config.json') },
    });
    expect(read.classifier).toMatchObject({
      labels: ['food', 'sport', 'weather'],
      weight: { shape: [3, 48] },
    });
    const packed = parseCanonical(new Uint8Array(readFileSync(join(workOf('labels'), 'packed.safetensors'))));
    expect(packed.classifier?.weight.data).toEqual(read.classifier!.weight.data);

    const stopped = start({ ...options, work: 'stopped', more: [...options.more, '--save-every', '0'] });
    await stopped.sees('saved');
    stopped.child.kill('SIGTERM');
    await stopped.end;
    const resumed = await run({ ...options, work: 'stopped', more: [...options.more, '--resume'] });
    expect(resumed.code).toBe(0);
    expect(readResult(workOf('stopped'))!.weights).toEqual(weights);
  });

  it.each([
    ['one label', [{ text: 'a', label: 'x' }], /line 1: The rows have one label/],
    ['some without', [...labelled(3), { prompt: 'a', completion: 'b' }], /line 4: The row has no label/],
    ['some with', [...TINY_ROWS, { text: 'a', label: 'x' }], /line 13: The row has a label/],
  ])('are refused: %s', async (name, rows, message) => {
    const file = `${name.replaceAll(' ', '-')}.jsonl`;
    writeRows(join(folder, file), rows);
    const end = await run({ rows: file, work: name.replaceAll(' ', '-'), request });
    expect(failure(end)).toMatchObject({
      ...{ event: 'failed', code: 'rows_invalid', message: expect.stringMatching(message) as string },
    });
  });

  it('continue no version, and nothing is trained on a classifier', async () => {
    const path = join(workOf('labels'), 'packed.safetensors');
    const digest = createHash('sha256').update(readFileSync(path)).digest('hex');
    const chain = [{ digest, scale: 1, path }];
    const onTop = await run({ work: 'on-top', chain, more: NAMED });
    expect(failure(onTop)).toMatchObject({
      code: 'settings_invalid',
      message: expect.stringContaining(`${digest.slice(0, 12)} below has a classification head`) as string,
    });
    const more = { rows: 'labels.jsonl', request: { ...request, continues: true } };
    expect(failure(await run({ ...more, work: 'continued' }))).toMatchObject({ code: 'settings_invalid' });
  });
});
