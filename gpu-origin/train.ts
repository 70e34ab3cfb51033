/**
 * Run by `graft train`, and by an origin for a job: rows and a base to an adapter, in a process of its own. Reports JSON
 * lines on stdout (protocol/training.ts). Ends after SIGTERM with a checkpoint of all finished steps.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { constants, getPriority, setPriority } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import {
  type AdapterContent,
  AdapterFormatError,
  packAdapter,
  parseCanonical,
  writePeftAdapter,
} from '../adapters/index.ts';
import { ChainEntry, chainId } from '../protocol/identity.ts';
import {
  CHECKPOINT_FILE,
  checkpointFile,
  OriginActivity,
  PACKED_FILE,
  TRAINING_FILE,
  TrainingCard,
  type TrainingEvent,
  type TrainingFailure,
  TrainingRequest,
} from '../protocol/training.ts';
import { Turns } from './jobs/give-way.ts';
import { progressReporter } from './log.ts';
import { BaseModelError } from './model/base-model.ts';
import { buildGraphs } from './model/build-graphs.ts';
import { createChatTemplate } from './model/chat-template.ts';
import { loadBase } from './model/load-base.ts';
import { loadTokenizer } from './model/load-tokenizer.ts';
import { FINAL_NORM } from './model/prepare-weights.ts';
import { readFully } from './model/read-file.ts';
import { readGains } from './runtime/adapter-batch.ts';
import { describeBase } from './runtime/create-runner.ts';
import { nextTurn, OrtError } from './runtime/device.ts';
import { openDevice, WANTED_PROVIDERS } from './runtime/open-device.ts';
import { type Activation, activationOf } from './training/activation.ts';
import { AdamW } from './training/adamw.ts';
import { longestRow } from './training/batches.ts';
import { readCheckpoint, type TrainingIdentity, writeCheckpoint } from './training/checkpoint.ts';
import { type HeadKind, newHead, trainedClassifier } from './training/classifier.ts';
import { loadChain, type ServedBase, unpackedBase } from './training/frozen-base.ts';
import { headOfRows, kindOfRow, otherKind, parseRows, type Row } from '../protocol/training-rows.ts';
import { encodeInTurns, splitRows, type TrainingRow } from './training/rows.ts';
import {
  continuedModules,
  type HeldOutScore,
  mostTokensOf,
  newParameters,
  settingsOf,
  StepPace,
  trainedModules,
  TrainingRun,
} from './training/training-run.ts';
import { Trainer } from './training/trainer.ts';

/** Between checkpoints: what a power cut costs at most, ms. */
const SAVE_EVERY_MS = 60_000;
/** Of rows that are left out or wrong, named in a message. */
const LINES_TOLD = 3;
/** Rows that become tokens between two looks at the signal. */
const ROWS_AT_ONCE = 256;

const RESULT = 'adapter';

const ChainFiles = z.array(ChainEntry.extend({ path: z.string().min(1) }));

export interface TrainParams {
  basePath: string;
  baseId?: string | undefined;
  /** Written into the adapter's configuration; default: the base's id. */
  baseName?: string | undefined;
  cacheDir: string;
  weights: 'int8' | 'f32';
  provider: (typeof WANTED_PROVIDERS)[number];
  threads?: number | undefined;
  rowsPath: string;
  /** Rows to hold out, in the place of a share of the others. */
  validationPath?: string | undefined;
  /** Has the checkpoint, and the result at the end. */
  work: string;
  request: TrainingRequest;
  chain: z.infer<typeof ChainFiles>;
  resume: boolean;
  /** Also writes the adapter as it is published. */
  pack?: boolean | undefined;
  /** Folder that gets adapters of earlier steps, as they are published, with their cards; default: none are kept. */
  checkpoints?: string | undefined;
  /** Between checkpoints, ms; default: a minute. */
  saveEvery?: number | undefined;
  tell: (event: TrainingEvent) => void;
  onProgress: (stage: string, done: number, total: number) => void;
  /** Ends it after the next checkpoint. */
  signal: AbortSignal;
  /** Whose processor this shares; default: nobody's. */
  turns?: Turns | undefined;
}

/** Why it ends without an adapter; the message is for the user. */
class TrainingEnd extends Error {
  override readonly name = 'TrainingEnd';
  constructor(
    readonly code: TrainingFailure,
    message: string,
  ) {
    super(message);
  }
}

/** Trains, and tells how it ends; never rejects. @returns whether there is a result or a checkpoint as asked. */
export async function train(params: TrainParams): Promise<boolean> {
  const { signal } = params;
  let step: number | null = null;
  let trains = false;
  // Preparing changes nothing that an end could leave half done.
  const stopped = new Promise<EndOf<'stopped'>>((resolve) => {
    const stop = (): void => {
      if (!trains) resolve({ event: 'stopped', step: step ?? 0, steps: 0 });
    };
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    const work = trainRows(params, {
      onSaved: (saved) => (step = saved),
      onTrains: () => (trains = true),
    });
    params.tell(await Promise.race([stopped, work]));
    return true;
  } catch (error) {
    params.tell({ event: 'failed', ...failureOf(error), kept_step: step });
    return false;
  }
}

type EndOf<Event extends 'ready' | 'stopped'> = Extract<TrainingEvent, { event: Event }>;

function failureOf(error: unknown): { code: TrainingFailure; message: string } {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof TrainingEnd) return { code: error.code, message };
  if (error instanceof BaseModelError || error instanceof AdapterFormatError)
    return { code: 'base_mismatch', message };
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') return { code: 'disk_full', message };
  // ORT_FAIL says so in words only.
  if ((error instanceof OrtError && /alloc|memory/i.test(message)) || error instanceof RangeError)
    // What its second sentence advises is for an origin.
    return { code: 'out_of_memory', message: `there is not enough memory (${message.split(/\. |\n/)[0]})` };
  return { code: 'training_failed', message };
}

/** @param hooks.onTrains called when it takes over the signal, after the preparation. */
async function trainRows(
  params: TrainParams,
  { onSaved, onTrains }: { onSaved: (step: number) => void; onTrains: () => void },
): Promise<EndOf<'ready' | 'stopped'>> {
  const { tell, signal, work, weights: format } = params;
  removeRemains(work);
  if (params.checkpoints !== undefined) {
    mkdirSync(params.checkpoints, { recursive: true, mode: 0o700 });
    removeRemains(params.checkpoints);
  }
  const file = readFileSync(params.rowsPath);
  const heldOutFile = params.validationPath === undefined ? null : readFileSync(params.validationPath);
  const { base, tokenizerSource } = await loadBase(params.basePath, params.baseId);
  const tokenizer = loadTokenizer(tokenizerSource);
  const request = {
    ...params.request,
    max_length: Math.min(params.request.max_length, longestRow(base.config.context)),
  };
  const files = readChain(params.chain);
  const activation = activationOf({
    request,
    below: files.map(({ file: adapter }) => parseCanonical(adapter).config),
    tokenizer,
  });
  if (!activation.ok) throw new TrainingEnd('settings_invalid', activation.error);
  const { activated } = activation.value;
  const reading = { ...params, ...activation.value, request };
  const { rows, leftOut, head } = await readRows(reading, { file, heldOutFile }, tokenizer);
  checkHeads(files, { head, continues: request.continues === true });
  const { hidden } = base.config;
  const problem = head?.problemType ?? null;
  const settings = settingsOf(
    { ...request, ...(problem === null ? {} : { problem_type: problem }) },
    { rows: rows.trained.length, config: base.config, activated },
  );
  const { config } = base;
  const info = describeBase(base, {
    format,
    context: config.context,
    provider: 'cpu',
    bits: true,
    adaptsEmbedding: true,
  });
  if (Math.fround(settings.alpha / settings.rank) === 0)
    throw new TrainingEnd(
      'settings_invalid',
      `alpha ${settings.alpha} over rank ${settings.rank} is 0 in float32. Use a larger --alpha`,
    );
  const parameters = newParameters(config, settings);
  if (parameters.length === 0)
    throw new TrainingEnd(
      'settings_invalid',
      `this base has no linear layer that ${settings.targets.join(', ')} would train: it stores some as ` +
        'one, or lacks them. Use --targets all',
    );
  if (head !== null) parameters.push(newHead(head.labels?.length ?? 1, config));
  if (settings.continues === true && params.chain.length === 0)
    throw new TrainingEnd('settings_invalid', 'there is no adapter to continue');
  const optimizer = new AdamW(parameters);
  const identity: TrainingIdentity = {
    rows: sha256(file),
    ...(heldOutFile === null ? {} : { heldOut: sha256(heldOutFile) }),
    base: info.digest,
    weights: format,
    chain: params.chain.map(({ digest, scale }) => ({ digest, scale })),
    settings,
  };
  const path = join(work, CHECKPOINT_FILE);
  let known;
  if (params.resume) {
    if (!existsSync(path)) throw new TrainingEnd('checkpoint_damaged', `there is no ${path}`);
    known = readCheckpoint(path, identity, { parameters, optimizer });
    if (!known.ok) throw new TrainingEnd(known.code, `${path} cannot be used: ${known.problem}`);
    onSaved(known.state.step);
  }
  const built = await buildGraphs({
    base,
    format,
    context: config.context,
    rotate: format !== 'f32',
    cacheDir: params.cacheDir,
    onProgress: params.onProgress,
  });
  const gains = readGains(base);
  const finalGain: Float32Array = base.tensor(FINAL_NORM, [hidden]);
  base.close();
  const fd = openSync(built.weightsPath, 'r');
  const onDisk: ServedBase = {
    config,
    gains,
    rotations: built.rotations,
    weights: {
      entries: built.weights,
      read({ offset, bytes: all }, begin = 0, bytes = all) {
        const content = new Uint8Array(bytes);
        if (!readFully(fd, content, offset + begin)) throw new Error(`${built.weightsPath} is truncated`);
        return content;
      },
    },
  };
  const { device } = await openDevice({ provider: params.provider, threads: params.threads });
  const served = device.own === null ? unpackedBase(onDisk) : onDisk;
  const chain = await loadChain({ base: info, ...served }, files);
  const trainer = await Trainer.open({
    device,
    base: served,
    parameters,
    scale: settings.alpha / settings.rank,
    chain,
    activated: activated !== undefined,
    ...(head === null
      ? {}
      : {
          classifier: {
            gain: finalGain,
            epsilon: config.rmsEpsilon,
            rotation: served.rotations?.stream ?? null,
            problemType: head.problemType,
          },
        }),
    mostTokens: mostTokensOf(rows, settings.batch),
    onProgress: (done, total) => params.onProgress('Loading the base model', done, total),
    turn: (run) => (params.turns === undefined ? run() : params.turns.take(run)),
  });
  let savedStep: number | null = null;
  /** The steps, which uses what is closed at the end. */
  let running: Promise<unknown> = Promise.resolve();
  const close = async (): Promise<void> => {
    await running.catch(() => undefined);
    trainer.close();
    await device.close();
    closeSync(fd);
  };
  // After the signal nobody waits for the step under way: the process ends.
  const closeInTime = async (): Promise<void> => (signal.aborted ? void close() : close());
  try {
    const run = new TrainingRun({
      trainer,
      config,
      parameters,
      optimizer,
      rows,
      settings,
      now: () => performance.now(),
      checkpoints: params.checkpoints !== undefined,
      ...(known === undefined ? {} : { state: known.state }),
    });
    const save = (): void => {
      writeCheckpoint(path, { identity, state: run.state, parameters, optimizer });
      savedStep = run.state.step;
      onSaved(savedStep);
      tell({ event: 'saved', step: savedStep });
    };
    const last = settings.continues === true ? files.at(-1) : undefined;
    // What is continued is part of the result, no longer below it.
    const below = last === undefined ? identity.chain : identity.chain.slice(0, -1);
    const baseModel = params.baseName ?? info.id;
    /** What is trained so far. */
    const trained = (heldOut: HeldOutScore | null): AdapterContent & { card: TrainingCard } => {
      const classifier = head === null ? undefined : trainedClassifier(parameters.at(-1)!, head);
      const own = trainedModules(parameters, settings.alpha);
      const { modules, continued } =
        last === undefined ? { modules: own, continued: undefined } : continuedModules(own, last);
      const card: TrainingCard = {
        rows: {
          sha256: identity.rows,
          trained: rows.trained.length,
          held_out: rows.heldOut.length,
          left_out: leftOut,
          ...(identity.heldOut === undefined ? {} : { held_out_sha256: identity.heldOut }),
        },
        base: { id: info.id, digest: info.digest, weights: format },
        chain: identity.chain,
        ...run.summary(heldOut),
        ...(continued === undefined ? {} : { continued }),
        finished_at: Date.now(),
      };
      return { modules, invocation: activated, classifier, card };
    };
    const { checkpoints: folder } = params;
    const owesAdapter = (): boolean =>
      folder !== undefined && run.isCheckpoint && !existsSync(join(folder, checkpointFile(run.state.step)));
    const keep = async (heldOut: HeldOutScore | null): Promise<void> => {
      if (folder === undefined || !run.isCheckpoint) return;
      const { card, ...adapter } = trained(heldOut);
      // The adapter last: where it is, both are there.
      writeWhole(cardFile(folder, card.steps), JSON.stringify(card));
      await writePacked(join(folder, checkpointFile(card.steps)), {
        ...adapter,
        baseModel,
        baseId: info.id,
        chain: below,
      });
    };
    onTrains();
    const stopped = new Promise<'stopped'>((resolve, reject) => {
      // Gradients and activations are apart from what is saved, so that this need not wait for the step.
      const stop = (): void => {
        try {
          save();
          resolve('stopped');
        } catch (error) {
          reject(error as Error);
        }
      };
      if (signal.aborted) stop();
      signal.addEventListener('abort', stop, { once: true });
    });
    const step = run.state.step;
    const steps = runSteps(run, {
      tell,
      signal,
      save,
      keep,
      owesAdapter,
      parameters,
      recompute: trainer.recompute,
      saveEvery: params.saveEvery ?? SAVE_EVERY_MS,
    });
    running = steps;
    const heldOut = await Promise.race([stopped, steps]);
    if (heldOut === 'stopped') {
      await closeInTime();
      return { event: 'stopped', step: savedStep ?? step, steps: run.steps };
    }
    const { card, ...content } = trained(heldOut);
    const adapter = { ...content, baseModel };
    const result = writeResult(work, { ...adapter, card });
    if (params.pack === true)
      await writePacked(join(work, PACKED_FILE), { ...adapter, baseId: info.id, chain: below });
    await closeInTime();
    return { event: 'ready', folder: result, card, ...keptCheckpoints(params, run.checkpoints) };
  } catch (error) {
    await closeInTime();
    throw error;
  }
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Until the last one, or until it is told to end. @returns the last score of the held-out rows, null without any. */
async function runSteps(
  run: TrainingRun,
  params: Pick<TrainParams, 'tell' | 'signal'> & {
    save: () => void;
    /** After a step: keeps the adapter, if this is one of those steps. */
    keep: (heldOut: HeldOutScore | null) => Promise<void>;
    /** Whether an adapter should be kept and is not. */
    owesAdapter: () => boolean;
    parameters: readonly { values: { length: number } }[];
    recompute: boolean;
    saveEvery: number;
  },
): Promise<HeldOutScore | null> {
  const { tell, signal, save, keep, saveEvery } = params;
  const evaluate = async (): Promise<HeldOutScore> => {
    const score = await run.evaluate();
    if (!Number.isFinite(score.loss))
      throw new TrainingEnd(
        'loss_not_finite',
        `the loss of the held-out rows after step ${run.state.step} is not a number. ` +
          (run.state.step === 0 ? 'Look at the base' : 'Use a lower --rate'),
      );
    tell({ event: 'held_out', step: run.state.step, ...score });
    return score;
  };
  let heldOut: HeldOutScore | null = null;
  // An earlier run may have ended between a step and its score, or the adapter that is kept.
  const owesAdapter = params.owesAdapter();
  if (run.owesScore || (owesAdapter && run.hasHeldOut)) heldOut = await evaluate();
  if (owesAdapter) await keep(heldOut);
  const first = run.state.step;
  let saved = performance.now();
  const pace = new StepPace(() => performance.now());
  while (!run.finished) {
    const result = await run.next();
    if (signal.aborted) break;
    if (!result.ok)
      throw new TrainingEnd(
        'loss_not_finite',
        `the loss of step ${run.state.step + 1} is not a number (rows at lines ${listed(result.lines)}). ` +
          'Use a lower --rate, or look at these rows',
      );
    const { report } = result;
    const each = pace.next();
    const now = performance.now();
    if (report.step - first === 1)
      tell({
        event: 'plan',
        steps: run.steps,
        done: first,
        parameters: params.parameters.reduce((sum, { values }) => sum + values.length, 0),
        seconds_per_step: each / 1_000,
        seconds: (each * (run.steps - report.step)) / 1_000,
        memory_bytes: process.resourceUsage().maxRSS * 1_024,
        recompute: params.recompute,
      });
    tell({
      event: 'step',
      step: report.step,
      steps: run.steps,
      loss: report.loss,
      rate: report.rate,
      tokens_per_second: (report.tokens * 1_000) / each,
      tokens: run.state.tokens,
      seconds_left: (each * (run.steps - report.step)) / 1_000,
    });
    if (run.scoresNow) heldOut = await evaluate();
    await keep(heldOut);
    if (!signal.aborted && (now - saved > saveEvery || run.finished)) {
      save();
      saved = performance.now();
    }
  }
  return heldOut;
}

const listed = (lines: readonly number[]): string =>
  `${lines.slice(0, LINES_TOLD).join(', ')}${lines.length > LINES_TOLD ? ', …' : ''}`;

/** Rows as tokens, divided; told. */
async function readRows(
  params: TrainParams & Pick<Activation, 'begins'>,
  { file, heldOutFile }: { file: Uint8Array; heldOutFile: Uint8Array | null },
  tokenizer: ReturnType<typeof loadTokenizer>,
): Promise<{
  rows: { trained: TrainingRow[]; heldOut: TrainingRow[] };
  leftOut: number;
  /** null = rows have answers. */
  head: HeadKind | null;
}> {
  const { request, rowsPath, validationPath = '', tell } = params;
  const all = await encodeFile(params, { path: rowsPath, bytes: file, what: 'line' }, tokenizer);
  const { head } = all;
  const rows = splitRows(all.rows, heldOutFile === null ? request.validation : 0);
  let { leftOut } = all;
  if (heldOutFile !== null) {
    const wanted = { path: validationPath, bytes: heldOutFile, what: 'validation file, line' };
    const heldOut = await encodeFile(params, { ...wanted, head }, tokenizer);
    rows.heldOut = heldOut.rows;
    leftOut = [...leftOut, ...heldOut.leftOut];
    if (rows.heldOut.length === 0) throw noRows(wanted.what, heldOut.leftOut);
  }
  if (rows.trained.length === 0) throw noRows('line', all.leftOut);
  const lengths = rows.trained.flatMap(({ sequences }) => sequences.map(({ tokens }) => tokens.length));
  tell({
    event: 'rows',
    trained: rows.trained.length,
    held_out: rows.heldOut.length,
    left_out: leftOut.length,
    // Not Math.max: there may be more rows than a call has arguments.
    longest: lengths.reduce((most, length) => Math.max(most, length), 0),
    tokens: lengths.reduce((sum, length) => sum + length, 0),
  });
  return { rows, leftOut: leftOut.length, head };
}

type Encoded = Awaited<ReturnType<typeof encodeInTurns>>;

/**
 * @param known of the rows that are trained on; null = those have answers, undefined = these are the ones.
 * @param problemType as asked for. @returns the head that is trained; null = the rows have answers.
 * @throws TrainingEnd unless all rows are of one kind.
 */
function headOf(
  rows: readonly Row[],
  what: string,
  known: HeadKind | null | undefined,
  problemType: TrainingRequest['problem_type'],
): HeadKind | null {
  const wrong = (line: number, problem: string): TrainingEnd =>
    new TrainingEnd('rows_invalid', `${what} ${line}: ${problem}`);
  if (known !== undefined) {
    const kind = known === null ? 'answer' : known.labels === null ? 'score' : 'label';
    const odd = rows.find((row) => kindOfRow(row) !== kind);
    if (odd !== undefined) throw wrong(odd.line, otherKind(kind, kindOfRow(odd)));
    const unknown = rows.find(({ label = '' }) => known?.labels?.includes(label) === false);
    if (unknown !== undefined) throw wrong(unknown.line, 'No row that is trained on has this label.');
    return known?.labels === null ? scoreHead(rows, what, known.problemType ?? 'regression') : known;
  }
  const found = headOfRows(rows);
  if (!found.ok) throw wrong(found.error.line, found.error.problem);
  const head = found.value;
  if (problemType !== undefined && head?.labels !== null)
    throw new TrainingEnd('settings_invalid', '--problem-type is for rows with a score, and these have none');
  if (head === null) return null;
  return head.labels === null
    ? scoreHead(rows, what, problemType ?? 'regression')
    : { labels: head.labels, problemType: null };
}

/** A head of one output. @throws TrainingEnd for a score that its loss does not take. */
function scoreHead(
  rows: readonly Row[],
  what: string,
  problemType: NonNullable<TrainingRequest['problem_type']>,
): HeadKind {
  const outside = rows.find(({ score = 0 }) => score < 0 || score > 1);
  if (problemType === 'multi_label_classification' && outside !== undefined)
    throw new TrainingEnd(
      'rows_invalid',
      `${what} ${outside.line}: The score ${outside.score} is not from 0 to 1, as multi_label_classification wants. Train a regression.`,
    );
  return { labels: null, problemType };
}

/** A chain has one classification head at most, and one that has it is trained no further. @throws TrainingEnd */
function checkHeads(
  files: ReturnType<typeof readChain>,
  { head, continues }: { head: HeadKind | null; continues: boolean },
): void {
  const below = files.find(({ file }) => parseCanonical(file).classifier !== undefined);
  if (below !== undefined)
    throw new TrainingEnd(
      'settings_invalid',
      `adapter ${below.digest.slice(0, 12)} below has a classification head. Train on the base, or on an adapter without one`,
    );
  if (head !== null && continues)
    throw new TrainingEnd(
      'settings_invalid',
      'rows with a label or score train a new classification head, which continues no version. Train on top of it with --parent',
    );
}

/** @param what names a line of it. @throws TrainingEnd */
async function encodeFile(
  { request, onProgress, begins }: TrainParams & Pick<Activation, 'begins'>,
  {
    path,
    bytes,
    what,
    head: known,
  }: {
    path: string;
    bytes: Uint8Array;
    what: string;
    head?: HeadKind | null;
  },
  tokenizer: ReturnType<typeof loadTokenizer>,
): Promise<Encoded & { head: HeadKind | null }> {
  const parsed = parseRows({
    bytes,
    format: path.endsWith('.csv') ? 'csv' : 'jsonl',
    method: request.method,
  });
  const more = parsed.problemCount - LINES_TOLD;
  if (parsed.problemCount > 0)
    throw new TrainingEnd(
      'rows_invalid',
      parsed.problems
        .slice(0, LINES_TOLD)
        .map(({ line, problem }) => `${what} ${line}: ${problem}`)
        .join('; ') + (more > 0 ? `; and ${more} more` : ''),
    );
  const template = createChatTemplate(tokenizer);
  const total = parsed.rows.length;
  const head = headOf(parsed.rows, what, known, request.problem_type);
  const encoding = {
    tokenizer,
    template,
    maxLength: request.max_length,
    begins,
    classes: head?.labels ?? undefined,
  };
  const encoded = await encodeInTurns(parsed.rows, encoding, ROWS_AT_ONCE, (done) => {
    if (total > ROWS_AT_ONCE) onProgress('Reading the rows', done, total);
    return nextTurn();
  });
  const silent = encoded.leftOut.filter(({ reason }) => reason === 'not_activated');
  if (silent.length > 0)
    throw new TrainingEnd(
      'rows_invalid',
      `${what} ${listed(silent.map(({ line }) => line))}: ${silent[0]!.why} ${silent.length} such rows`,
    );
  return { ...encoded, head };
}

function noRows(what: string, leftOut: Encoded['leftOut']): TrainingEnd {
  const why = leftOut[0];
  const file = what === 'line' ? 'the file' : 'the validation file';
  return new TrainingEnd(
    'no_rows',
    why === undefined ? `${file} has no rows` : `no row can be used; ${what} ${why.line}: ${why.why}`,
  );
}

/** @returns the chain with its files. @throws TrainingEnd */
const readChain = (chain: TrainParams['chain']): Parameters<typeof loadChain>[1] =>
  chain.map(({ digest, scale, path }) => {
    const file = new Uint8Array(readFileSync(path));
    if (sha256(file) !== digest)
      throw new TrainingEnd('base_mismatch', `${path} is not the file ${digest.slice(0, 12)} of the chain`);
    return { digest, scale, file };
  });

/** A PEFT folder and the card, whole or not at all. @returns its path. */
function writeResult(
  work: string,
  { card, ...adapter }: Parameters<typeof writePeftAdapter>[0] & { card: TrainingCard },
): string {
  const { configJson, safetensors, modelConfigJson } = writePeftAdapter(adapter);
  const folder = join(work, RESULT);
  const temporary = `${folder}.${process.pid}.tmp`;
  rmSync(temporary, { recursive: true, force: true });
  try {
    mkdirSync(temporary, { mode: 0o700 });
    writeFileSync(join(temporary, 'adapter_config.json'), configJson);
    writeFileSync(join(temporary, 'adapter_model.safetensors'), safetensors);
    if (modelConfigJson !== null) writeFileSync(join(temporary, 'config.json'), modelConfigJson);
    writeFileSync(join(temporary, TRAINING_FILE), `${JSON.stringify(card, null, 2)}\n`);
    rmSync(folder, { recursive: true, force: true });
    renameSync(temporary, folder);
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    throw error;
  }
  return folder;
}

/** The adapter as `graft publish` packs it, whole or not at all. */
async function writePacked(
  path: string,
  params: Parameters<typeof writePeftAdapter>[0] & { baseId: string; chain: readonly ChainEntry[] },
): Promise<void> {
  const { baseId, chain, ...adapter } = params;
  const { safetensors, ...configs } = writePeftAdapter(adapter);
  const { bytes } = await packAdapter({
    files: { weights: safetensors, ...configs, weightsPath: 'adapter_model.safetensors' },
    baseId,
    parentChainId: chain.length === 0 ? null : await chainId(chain),
  });
  writeWhole(path, bytes);
}

function writeWhole(path: string, content: string | Uint8Array): void {
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, content, { mode: 0o600 });
  renameSync(temporary, path);
}

const cardFile = (folder: string, step: number): string => join(folder, `${step}.json`);

/** Cards of the adapters that were kept, also by an earlier run. */
function keptCheckpoints(
  { checkpoints: folder }: TrainParams,
  steps: readonly number[],
): Pick<EndOf<'ready'>, 'checkpoints'> {
  if (folder === undefined) return {};
  const kept = steps.filter((step) => existsSync(join(folder, checkpointFile(step))));
  const read = (step: number): unknown => JSON.parse(readFileSync(cardFile(folder, step), 'utf8'));
  return { checkpoints: kept.map((step) => TrainingCard.parse(read(step))) };
}

/** What a run that was killed had begun to write. */
function removeRemains(work: string): void {
  for (const name of readdirSync(work))
    if (name.endsWith('.tmp')) rmSync(join(work, name), { recursive: true, force: true });
}

// Last, because it uses the functions above.
if (process.argv[1] === import.meta.filename) {
  // An origin gives it a lower one, which it may not raise.
  setPriority(Math.max(getPriority(), constants.priority.PRIORITY_BELOW_NORMAL));
  // Whoever started it with a channel has gone, in whatever way.
  const turns = new Turns({
    now: () => performance.now(),
    timer(ms, callback) {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
  });
  if (process.channel !== undefined) {
    process.once('disconnect', () => process.exit(1));
    process.on('message', (message) => turns.tell(OriginActivity.parse(message).busy));
    process.channel.unref();
  }
  const option = { type: 'string' } as const;
  const { values } = parseArgs({
    options: {
      base: option,
      'base-id': option,
      'base-name': option,
      cache: option,
      weights: option,
      provider: option,
      threads: option,
      rows: option,
      validation: option,
      work: option,
      settings: option,
      chain: option,
      'save-every': option,
      resume: { type: 'boolean' },
      pack: { type: 'boolean' },
      checkpoints: option,
    },
  });
  const write = (event: object): boolean => process.stdout.write(`${JSON.stringify(event)}\n`);
  const ending = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => ending.abort());
  const request = TrainingRequest.safeParse(JSON.parse(values.settings ?? '{}'));
  const fine = request.success
    ? await train({
        basePath: values.base ?? '',
        baseId: values['base-id'],
        baseName: values['base-name'],
        cacheDir: values.cache ?? '',
        weights: z.enum(['int8', 'f32']).parse(values.weights ?? 'int8'),
        provider: z.enum(WANTED_PROVIDERS).parse(values.provider ?? 'auto'),
        threads: values.threads === undefined ? undefined : Number(values.threads),
        rowsPath: values.rows ?? '',
        validationPath: values.validation,
        work: values.work ?? '',
        request: request.data,
        chain: ChainFiles.parse(JSON.parse(values.chain ?? '[]')),
        resume: values.resume === true,
        pack: values.pack === true,
        checkpoints: values.checkpoints,
        saveEvery: values['save-every'] === undefined ? undefined : Number(values['save-every']),
        tell: write,
        onProgress: progressReporter({
          stderr: process.stderr,
          onPercent: (what, percent) => write({ event: 'progress', what, percent }),
        }),
        signal: ending.signal,
        turns,
      })
    : (write({
        event: 'failed',
        code: 'settings_invalid',
        message: z.prettifyError(request.error),
        kept_step: null,
      }),
      false);
  process.exit(fine ? 0 : 1);
}
