/** Trains an adapter over the open base. A separate file in the runtime's folder, loaded on demand. */
import { config as configureZod } from 'zod';
import { AdapterFormatError, packAdapter, parseCanonical, writePeftAdapter } from '../../adapters/index.ts';
import type { ChatTemplate } from '../../gpu-origin/model/chat-template.ts';
import type { Tokenizer } from '../../gpu-origin/model/tokenizer.ts';
import { WeightEntries } from '../../gpu-origin/model/web-base.ts';
import { nextTurn } from '../../gpu-origin/runtime/device.ts';
import { type Activation, activationOf } from '../../gpu-origin/training/activation.ts';
import { AdamW } from '../../gpu-origin/training/adamw.ts';
import { longestRow } from '../../gpu-origin/training/batches.ts';
import { loadChain, type ServedBase, type WeightFile } from '../../gpu-origin/training/frozen-base.ts';
import { encodeInTurns, splitRows, type TrainingRow } from '../../gpu-origin/training/rows.ts';
import { parseRows } from '../../protocol/training-rows.ts';
import { Trainer } from '../../gpu-origin/training/trainer.ts';
import {
  type HeldOutScore,
  mostTokensOf,
  newParameters,
  settingsOf,
  StepPace,
  trainedModules,
  TrainingRun,
} from '../../gpu-origin/training/training-run.ts';
import { type ChainEntry, chainId, sha256Hex } from '../../protocol/identity.ts';
import {
  ALPHA_PER_RANK,
  TRAINING_DEFAULTS,
  type TrainingCard,
  TrainingRequest,
} from '../../protocol/training.ts';
import type { Problem, TrainedFiles, TrainingProgress } from '../messages.ts';
import type { BaseToTrain } from './open-runner.ts';

// zod tests once whether it may compile code, which a page's policy reports.
configureZod({ jitless: true });

/** Rows that are encoded before answers get a turn. */
const ROWS_A_TURN = 64;
/** Tokens of a row by default: half of what a server takes, for attention's scores grow with the square. */
const MAX_LENGTH = 512;
/** Rows that a message names. */
const ROWS_TOLD = 3;
/** Bytes of a trained adapter's file beside its values, at most. */
const FILE_OVERHEAD = 256 * 1024;

export interface TrainHereParams {
  base: BaseToTrain;
  tokenizer: Tokenizer;
  template: ChatTemplate | null;
  rows: { bytes: Uint8Array<ArrayBuffer>; unit: 'row' | 'line' };
  /** Fields of a TrainingRequest, not yet checked; undefined = the default. */
  settings: Record<string, unknown>;
  /** The frozen chain to train on, root first; empty = the base. */
  chain: readonly (ChainEntry & { file: Uint8Array<ArrayBuffer> })[];
  /** Takes bytes of storage for the result, so that no training is lost at its end. */
  reserve: (bytes: number) => Promise<void>;
  onProgress: (progress: TrainingProgress) => void;
  signal: AbortSignal;
}

export interface TrainedHere {
  canonical: Uint8Array<ArrayBuffer>;
  digest: string;
  card: TrainingCard;
}

/** Problems are data: this chunk has classes of its own, which the worker does not know. */
export type TrainingOutcome = ({ ok: true } & TrainedHere) | { ok: false; problem: Problem };

class TrainingEnd extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
  }
}

/** @throws the signal's reason. */
export async function trainHere(params: TrainHereParams): Promise<TrainingOutcome> {
  try {
    return { ok: true, ...(await train(params)) };
  } catch (error) {
    params.signal.throwIfAborted();
    const problem = problemOf(error);
    if (problem === null) throw error;
    return { ok: false, problem };
  }
}

/** PEFT's files of a trained adapter. */
export function peftFiles(canonical: Uint8Array<ArrayBuffer>, baseModel: string): TrainedFiles {
  const { config, modules } = parseCanonical(canonical);
  return { canonical, ...writePeftAdapter({ modules, invocation: config.invocation, baseModel }) };
}

function problemOf(error: unknown): Problem | null {
  if (error instanceof TrainingEnd) return error.problem;
  if (error instanceof AdapterFormatError) return { code: 'adapter_invalid', message: error.message };
  if (!(error instanceof Error)) return null;
  const isFull =
    (error.name === 'OrtError' && /alloc|memory/i.test(error.message)) || error.name === 'RangeError';
  if (!isFull) return null;
  const message =
    `The device has too little memory to train (${error.message}). Close other tabs, or use a smaller ` +
    'maxLength or rank.';
  return { code: 'out_of_memory', message };
}

async function train(params: TrainHereParams): Promise<TrainedHere> {
  const { signal, base: parts } = params;
  const { config, device, gains, rotations } = parts;
  const { base } = parts.base.manifest;
  const request = readSettings(params.settings, base.context);
  const activation = activationOf({
    request,
    below: params.chain.map(({ file }) => parseCanonical(file).config),
    tokenizer: params.tokenizer,
  });
  if (!activation.ok)
    throw new TrainingEnd({ code: 'invalid_request', message: `${activation.error}.`, param: 'activated' });
  const { activated } = activation.value;
  const { rows, leftOut } = await readRows({ ...params, ...activation.value }, request);
  const settings = settingsOf(request, { rows: rows.trained.length, config, activated });
  const parameters = newParameters(config, settings);
  if (parameters.length === 0)
    throw new TrainingEnd({
      code: 'invalid_request',
      message:
        `This base has no linear layer that ${settings.targets.join(', ')} would train: it stores some as ` +
        'one, or lacks them. Leave out targets to train all.',
      param: 'targets',
    });
  await params.reserve(FILE_OVERHEAD + 4 * parameters.reduce((sum, { values }) => sum + values.length, 0));
  const served: ServedBase = { config, gains, rotations, weights: weightFile(parts) };
  const optimizer = new AdamW(parameters);
  const trainer = await Trainer.open({
    device,
    base: served,
    parameters,
    scale: settings.alpha / settings.rank,
    chain: await loadChain({ base, config, gains, rotations }, params.chain),
    activated: activated !== undefined,
    mostTokens: mostTokensOf(rows, settings.batch),
    onProgress: () => signal.throwIfAborted(),
  });
  let run: TrainingRun;
  let heldOut: HeldOutScore | null;
  try {
    run = new TrainingRun({
      trainer,
      config,
      parameters,
      optimizer,
      rows,
      settings,
      now: () => performance.now(),
    });
    heldOut = await runSteps(run, params);
  } finally {
    trainer.close();
  }
  const card: TrainingCard = {
    rows: {
      sha256: await sha256Hex(params.rows.bytes),
      trained: rows.trained.length,
      held_out: rows.heldOut.length,
      left_out: leftOut,
    },
    base: { id: base.id, digest: base.digest, weights: 'int8' },
    chain: params.chain.map(({ digest, scale }) => ({ digest, scale })),
    ...run.summary(heldOut),
    finished_at: Date.now(),
  };
  // Packed from PEFT's files, so that whoever publishes an export gets the same digest.
  const { configJson, safetensors } = writePeftAdapter({
    modules: trainedModules(parameters, settings.alpha),
    invocation: activated,
    baseModel: base.id,
  });
  const { bytes, digest } = await packAdapter({
    files: { configJson, weights: safetensors },
    baseId: base.id,
    parentChainId: card.chain.length === 0 ? null : await chainId(card.chain),
  });
  return { canonical: bytes, digest, card };
}

/** @returns the last score of the held-out rows; null without any. */
async function runSteps(
  run: TrainingRun,
  { signal, rows, onProgress }: TrainHereParams,
): Promise<HeldOutScore | null> {
  if (run.hasHeldOut) await run.evaluate();
  let heldOut: HeldOutScore | null = null;
  const pace = new StepPace(() => performance.now());
  while (!run.finished) {
    signal.throwIfAborted();
    const result = await run.next();
    if (!result.ok)
      throw new TrainingEnd({
        code: 'loss_not_finite',
        message:
          `The loss of step ${run.state.step + 1} is not a number (${told(rows.unit, result.lines)}). ` +
          'Use a smaller rate, or look at these rows.',
        param: 'rate',
      });
    const { step, loss, tokens } = result.report;
    const each = pace.next();
    signal.throwIfAborted();
    const scored = run.scoresNow ? await run.evaluate() : null;
    heldOut = scored ?? heldOut;
    onProgress({
      stage: 'train',
      step,
      steps: run.steps,
      loss,
      heldOutLoss: scored?.loss ?? null,
      tokensPerSecond: (tokens * 1_000) / each,
      secondsLeft: (each * (run.steps - step)) / 1_000,
    });
  }
  return heldOut;
}

const told = (unit: 'row' | 'line', lines: readonly number[]): string =>
  `${unit}s ${lines.slice(0, ROWS_TOLD).join(', ')}${lines.length > ROWS_TOLD ? ', …' : ''}`;

/** Fields whose option has another name. */
const OPTIONS: Record<string, string> = {
  least_steps: 'leastSteps',
  max_length: 'maxLength',
  activated_by: 'activated',
};

function readSettings(settings: Record<string, unknown>, context: number): TrainingRequest {
  const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
  const { rank } = { ...TRAINING_DEFAULTS, ...given };
  const parsed = TrainingRequest.safeParse({
    ...TRAINING_DEFAULTS,
    max_length: MAX_LENGTH,
    alpha: ALPHA_PER_RANK * Number(rank),
    ...given,
  });
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const field = String(issue?.path[0] ?? '');
    const param = OPTIONS[field] ?? field;
    throw new TrainingEnd({ code: 'invalid_request', message: `${param}: ${issue?.message}`, param });
  }
  return { ...parsed.data, max_length: Math.min(parsed.data.max_length, longestRow(context)) };
}

async function readRows(
  { rows: { bytes, unit }, tokenizer, template, signal, begins }: TrainHereParams & Activation,
  { method, max_length: maxLength, validation }: TrainingRequest,
): Promise<{ rows: { trained: TrainingRow[]; heldOut: TrainingRow[] }; leftOut: number }> {
  const parsed = parseRows({ bytes, format: formatOf(bytes), method });
  if (parsed.problemCount > 0) {
    const more = parsed.problemCount - ROWS_TOLD;
    const first = parsed.problems
      .slice(0, ROWS_TOLD)
      .map(({ line, problem }) => `${unit} ${line}: ${problem}`);
    const message = first.join(' ') + (more > 0 ? ` And ${more} more.` : '');
    throw new TrainingEnd({ code: 'rows_invalid', message, param: 'rows' });
  }
  const labelled = parsed.rows.find(({ label, score }) => label !== undefined || score !== undefined);
  if (labelled !== undefined)
    throw new TrainingEnd({
      code: 'rows_invalid',
      message: `${unit} ${labelled.line}: a label or score trains a classification head, whose classes a page could not ask for. Use graft train, or a job.`,
      param: 'rows',
    });
  const turn = (): Promise<void> => {
    signal.throwIfAborted();
    return nextTurn();
  };
  const encoding = { tokenizer, template, maxLength, begins };
  const { rows: encoded, leftOut } = await encodeInTurns(parsed.rows, encoding, ROWS_A_TURN, turn);
  const silent = leftOut.filter(({ reason }) => reason === 'not_activated');
  if (silent.length > 0)
    throw new TrainingEnd({
      code: 'rows_invalid',
      message: `${told(
        unit,
        silent.map(({ line }) => line),
      )}: the prompt does not contain the tokens from which on the adapter acts.`,
      param: 'rows',
    });
  const rows = splitRows(encoded, validation);
  if (rows.trained.length > 0) return { rows, leftOut: leftOut.length };
  const [why] = leftOut;
  const message =
    why === undefined
      ? 'There are no rows to train on.'
      : `No row can be used. ${unit} ${why.line}: ${why.why}`;
  throw new TrainingEnd({ code: 'no_rows', message, param: 'rows' });
}

/** JSON Lines begin with a brace; CSV begins with the name of a column. */
function formatOf(bytes: Uint8Array): 'jsonl' | 'csv' {
  const start = new TextDecoder().decode(bytes.subarray(0, 4_096)).trimStart();
  return start === '' || /^[[{]/.test(start) ? 'jsonl' : 'csv';
}

/** What is read in parts, the embedding and the rotary tables, is read once: each read asks the browser's storage. */
function weightFile({ base }: BaseToTrain): WeightFile {
  const file = base.external('weights.bin');
  const known = new Map<string, Uint8Array<ArrayBuffer>>();
  const whole = (offset: number, bytes: number): Uint8Array<ArrayBuffer> =>
    file.subarray(offset, offset + bytes);
  return {
    entries: WeightEntries.parse(JSON.parse(base.text('weights.json'))),
    read({ name, offset, bytes: all }, begin, bytes) {
      if (begin === undefined) return whole(offset, all);
      const content = known.get(name) ?? whole(offset, all);
      known.set(name, content);
      return content.slice(begin, bytes === undefined ? all : begin + bytes);
    },
  };
}
