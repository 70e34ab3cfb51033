/**
 * Training: its settings, what the program that trains reports line by line, and the card that a trained version
 * carries.
 */
import { z } from 'zod';
import { err, ok, type Result } from './api-error.ts';
import { InvocationTokens } from './adapter-manifest.ts';
import { ChainEntry, Digest } from './identity.ts';

/**
 * Linears of a layer that can be trained: those of attention and MLP by PEFT's names without `_proj`, those of linear
 * attention (Qwen3.5), and those of embeddings by layer (Gemma 4 E2B and E4B).
 */
export const TRAINABLE = [
  'q',
  'k',
  'v',
  'o',
  'gate',
  'up',
  'down',
  'in_proj_qkv',
  'in_proj_z',
  'in_proj_b',
  'in_proj_a',
  'out_proj',
  'per_layer_input_gate',
  'per_layer_projection',
] as const;
export type Trainable = (typeof TRAINABLE)[number];

/** Parts of fused linears (Phi-3, GLM), which are trained whole. */
const FUSED: Readonly<Record<string, readonly Trainable[]>> = {
  qkv_proj: ['q', 'k', 'v'],
  gate_up_proj: ['gate', 'up'],
};

/** @param module path of a linear. @returns the targets that train it together; none if it cannot be trained. */
export function targetsOf(module: string): readonly Trainable[] {
  const own = module.slice(module.lastIndexOf('.') + 1);
  return FUSED[own] ?? TRAINABLE.filter((target) => target === own || `${target}_proj` === own);
}

/** Whether a linear is trained. @param module its path. */
export function isTrained(module: string, targets: readonly Trainable[]): boolean {
  const needed = targetsOf(module);
  return needed.length > 0 && needed.every((target) => targets.includes(target));
}

/** Supervised fine-tuning, or direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290). */
export const TRAINING_METHODS = ['sft', 'dpo'] as const;
export type TrainingMethod = (typeof TRAINING_METHODS)[number];

/** Largest rank of a trained adapter: the largest rank sum of a chain. */
export const MAX_TRAINED_RANK = 256;
/** Largest rank of an adapter that continues another; if that has more, its rank. */
export const MAX_CONTINUED_RANK = 64;
export const MAX_EPOCHS = 100;
export const MAX_BATCH_ROWS = 256;
/** Tokens of a row; attention is computed in one piece. */
export const MAX_ROW_TOKENS = 4_096;
/** Points of a card's loss curve. */
export const MAX_CURVE_POINTS = 256;
/** Bytes of a training card as JSON: room for a full curve of unrounded losses and the longest chain. */
export const MAX_TRAINING_CARD_BYTES = 16 * 1024;

/** transformers' kinds of problem for a head of one output. */
export const SCORE_PROBLEMS = ['regression', 'multi_label_classification'] as const;

export const TrainingSettings = z.strictObject({
  method: z.enum(TRAINING_METHODS),
  rank: z.int().min(1).max(MAX_TRAINED_RANK),
  /** The delta's factor is alpha / rank. */
  alpha: z.number().positive().max(10_000),
  targets: z.array(z.enum(TRAINABLE)).min(1),
  epochs: z.number().positive().max(MAX_EPOCHS),
  /** Steps at least, however few rows there are. */
  least_steps: z.int().min(1).max(1_000_000),
  /** Largest learning rate; it rises over the first steps, then falls by a cosine. */
  rate: z.number().positive().max(1),
  /** Rows of a step; a pair counts once. */
  batch: z.int().min(1).max(MAX_BATCH_ROWS),
  /** Longest row in tokens; longer ones are left out. */
  max_length: z.int().min(16).max(MAX_ROW_TOKENS),
  /** Share of rows that are held out. */
  validation: z.number().min(0).max(0.5),
  seed: z.int().min(0).max(0xffff_ffff),
  /** Of `dpo`: how far from the untrained chain the answers may go. */
  beta: z.number().positive().max(10),
  /** The result is the last adapter of the chain and what was trained on it, as one adapter that takes its place. */
  continues: z.boolean().optional(),
  /**
   * Of rows with a score: `regression` learns numbers by the mean squared error, `multi_label_classification` shares of 0
   * to 1, such as whether a document is relevant, by the binary cross-entropy. As transformers for one output.
   */
  problem_type: z.enum(SCORE_PROBLEMS).optional(),
  /** Tokens from whose last occurrence in a row's prompt on it acts; absent = on every token. */
  activated: InvocationTokens.optional(),
});
export type TrainingSettings = z.infer<typeof TrainingSettings>;

/** Characters of a text that activates an adapter. */
const MAX_ACTIVATING_CHARACTERS = 4_096;

/**
 * What a training is asked for. The program chooses a rate of null by the base's width, a batch of null by the rows; a
 * text that activates the adapter becomes tokens there.
 */
export const TrainingRequest = TrainingSettings.extend({
  rate: TrainingSettings.shape.rate.nullable(),
  batch: TrainingSettings.shape.batch.nullable(),
  /** The text of `activated`, in its place. */
  activated_by: z.string().min(1).max(MAX_ACTIVATING_CHARACTERS).optional(),
});
export type TrainingRequest = z.infer<typeof TrainingRequest>;

/** Rate of preference optimization: it starts from answers that are good already. */
const DPO_RATE = 1e-5;

/**
 * Largest rate unless one is asked for. For supervised training 5e-5 * 10 * (2000 / hidden)^0.781, Thinking Machines' fit
 * for low-rank deltas over Llamas (tinker-cookbook, hyperparam_utils); independent of the rank.
 * @param hidden width of the base.
 */
export const usualRate = (method: TrainingMethod, hidden: number): number =>
  method === 'dpo' ? DPO_RATE : 5e-4 * (2_000 / hidden) ** 0.781;

/** Rows from which a step has the larger batch. */
const MANY_ROWS = 200;
/** Batch unless one is asked for. @param rows that are trained on. */
export const usualBatch = (rows: number): number => (rows < MANY_ROWS ? 4 : 8);

/** With a factor of 2, one rate fits every rank. */
export const ALPHA_PER_RANK = 2;

/** For a few hundred rows. */
export const TRAINING_DEFAULTS = {
  method: 'sft',
  rank: 8,
  alpha: 8 * ALPHA_PER_RANK,
  targets: [...TRAINABLE],
  epochs: 3,
  least_steps: 60,
  rate: null,
  batch: null,
  max_length: 1_024,
  validation: 0.1,
  seed: 0,
  beta: 0.1,
} as const satisfies TrainingRequest;

/** `[step, training loss, held-out loss or null]` */
export const CurvePoint = z.tuple([z.int().min(0), z.number(), z.number().nullable()]);
/** Loss over the training, thinned out. */
export const TrainingCurve = z.array(CurvePoint).max(MAX_CURVE_POINTS);
export type TrainingCurve = z.infer<typeof TrainingCurve>;

/** How a version was made, as its publisher reports it. Nobody else has checked it. */
export const TrainingCard = z
  .strictObject({
    /** sha256 of the rows' file, and how its rows were used. */
    rows: z.strictObject({
      sha256: Digest,
      trained: z.int().min(1),
      held_out: z.int().min(0),
      /** Left out because they are too long. */
      left_out: z.int().min(0),
      /** Of a file of its own, whose rows were held out. */
      held_out_sha256: Digest.optional(),
    }),
    base: z.strictObject({ id: z.string().min(1).max(128), digest: Digest, weights: z.string().max(16) }),
    /** The frozen chain that it was trained on, root first; empty = the base. */
    chain: z.array(ChainEntry).max(16),
    settings: TrainingSettings,
    /** What became of the chain's last adapter, of a training that continues it. */
    continued: z
      .strictObject({
        /** Largest ranks of the exact sum, and of the result. */
        sum_rank: z.int().min(1),
        rank: z.int().min(1),
        /** Norm of what was cut off over that of the sum; 0 = the sum is exact. */
        relative_error: z.number().min(0).max(1),
      })
      .optional(),
    /** It was made from prompts that keys had kept, and is not for others without a question. None of their text. */
    prompts: z
      .strictObject({
        rows: z.int().min(1),
        /** Who asked what the rows are about. */
        users: z.int().min(1),
        /** Rows that users decided, and judges. */
        by_users: z.int().min(0),
        by_judges: z.int().min(0),
        /** First and last decision, unix ms. */
        from: z.int(),
        to: z.int(),
      })
      .optional(),
    steps: z.int().min(1),
    /** Labelled tokens of all steps. */
    tokens: z.int().min(1),
    curve: TrainingCurve,
    /** Over the held-out rows, before and after; null = none were held out. */
    scores: z
      .strictObject({
        loss_before: z.number(),
        loss: z.number(),
        /** Rows of which each token of the answer is the likeliest one, or the class; null of a `regression`. */
        exact: z.int().min(0).nullable(),
        rows: z.int().min(1),
      })
      .nullable(),
    /** Of training, without the preparation. */
    seconds: z.number().min(0),
    /** Unix ms. */
    finished_at: z.int(),
  })
  .meta({ id: 'TrainingCard' });
export type TrainingCard = z.infer<typeof TrainingCard>;

/** As a publication sends it, and as it is stored: at most {@link MAX_TRAINING_CARD_BYTES} of JSON. */
export const SentTrainingCard = TrainingCard.refine(
  (card) => new TextEncoder().encode(JSON.stringify(card)).length <= MAX_TRAINING_CARD_BYTES,
  `must have at most ${MAX_TRAINING_CARD_BYTES} bytes as JSON`,
);

/** Adapters of earlier steps that a training keeps beside its result. */
export const MAX_CHECKPOINTS = 2;

/**
 * Steps after which an adapter is kept: the ends of the last whole epochs before the end. Where `least_steps` makes a
 * training longer, its epochs are longer too.
 * @param of.steps of the whole training. @returns ascending, at most {@link MAX_CHECKPOINTS}; none of a single epoch.
 */
export function checkpointSteps({ steps, epochs }: { steps: number; epochs: number }): number[] {
  const whole = Math.ceil(epochs) - 1;
  const ends = Array.from({ length: Math.min(MAX_CHECKPOINTS, whole) }, (_, back) =>
    Math.round(((whole - back) * steps) / epochs),
  );
  return [...new Set(ends)].filter((step) => step > 0 && step < steps).reverse();
}

/** File beside an adapter that has its card. */
export const TRAINING_FILE = 'training.json';
/** In the work folder of `graft train`: what an interrupted training continues from. */
export const CHECKPOINT_FILE = 'checkpoint.safetensors';
/** There too, of a job on an origin: the trained adapter as graft publishes it. */
export const PACKED_FILE = 'packed.safetensors';
/** In the folder of checkpoints: the adapter after a step, as graft publishes it. Its card is in the `.json` beside it. */
export const checkpointFile = (step: number): string => `${step}.safetensors`;
/** A card's file may be indented. */
export const MAX_TRAINING_FILE_BYTES = 4 * MAX_TRAINING_CARD_BYTES;

/** @returns the card in the text of a {@link TRAINING_FILE}, or what is wrong and what to do about it. */
export function readTrainingText(text: string): Result<TrainingCard, string> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return err(notACard('it is not JSON'));
  }
  const parsed = SentTrainingCard.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  const [issue] = parsed.error.issues;
  const where = issue?.path.length ? `"${issue.path.join('.')}": ` : '';
  return err(notACard(`${where}${issue?.message ?? ''}`));
}

/** @param problem such as `it is not JSON`. */
export const notACard = (problem: string): string =>
  `${TRAINING_FILE} is not a training card: ${problem}. Remove it to publish without a card, or repair it.`;

/** As an edge returns it; fields that a newer edge adds are dropped. */
export const TrainingCardView = TrainingCard.extend({
  rows: TrainingCard.shape.rows.strip(),
  base: TrainingCard.shape.base.strip(),
  chain: z.array(ChainEntry.strip()),
  settings: TrainingSettings.strip(),
  continued: TrainingCard.shape.continued.unwrap().strip().optional(),
  prompts: TrainingCard.shape.prompts.unwrap().strip().optional(),
  scores: TrainingCard.shape.scores.unwrap().strip().nullable(),
}).strip();

/** Why a training ended without an adapter. The checkpoint stays, if there is one. */
export const TRAINING_FAILURES = [
  'rows_invalid',
  'no_rows',
  'settings_invalid',
  'base_mismatch',
  'checkpoint_mismatch',
  'checkpoint_damaged',
  'loss_not_finite',
  'out_of_memory',
  'disk_full',
  'training_failed',
] as const;
export type TrainingFailure = (typeof TRAINING_FAILURES)[number];

/** What an origin tells the training program that it has started, on their channel: whether it answers requests now. */
export const OriginActivity = z.object({ busy: z.boolean() });
export type OriginActivity = z.infer<typeof OriginActivity>;

/** A line that the training program writes; its preparation reports `progress` like an origin. */
export const TrainingEvent = z.discriminatedUnion('event', [
  z.object({
    event: z.literal('rows'),
    trained: z.int(),
    held_out: z.int(),
    left_out: z.int(),
    /** Tokens of the longest row, and of all rows that are trained on. */
    longest: z.int(),
    tokens: z.int(),
  }),
  z.object({
    event: z.literal('plan'),
    steps: z.int(),
    /** Steps that an earlier run has done. */
    done: z.int(),
    /** Numbers that are trained. */
    parameters: z.int(),
    /** Of a step that was measured. */
    seconds_per_step: z.number(),
    /** Of all that is left. */
    seconds: z.number(),
    /** Largest memory of the process so far, bytes. */
    memory_bytes: z.number(),
    /** Whether layers are computed again on the way back, which needs less memory. */
    recompute: z.boolean(),
  }),
  z.object({
    event: z.literal('step'),
    step: z.int(),
    steps: z.int(),
    loss: z.number(),
    rate: z.number(),
    tokens_per_second: z.number(),
    /** Labelled tokens of all steps so far. */
    tokens: z.int(),
    seconds_left: z.number(),
  }),
  z.object({
    event: z.literal('held_out'),
    step: z.int(),
    loss: z.number(),
    exact: z.int().nullable(),
    rows: z.int(),
  }),
  z.object({ event: z.literal('saved'), step: z.int() }),
  /** Interrupted; the checkpoint has all steps. Of 0 steps: it was still preparing, and saved nothing. */
  z.object({ event: z.literal('stopped'), step: z.int(), steps: z.int() }),
  z.object({
    event: z.literal('failed'),
    code: z.enum(TRAINING_FAILURES),
    message: z.string(),
    /** Step of the checkpoint that is left; null = none. */
    kept_step: z.int().nullable(),
  }),
  /**
   * The adapter is in `folder`, in PEFT's format. `checkpoints`: the cards of adapters of earlier steps, where they were
   * asked for.
   */
  z.object({
    event: z.literal('ready'),
    folder: z.string(),
    card: TrainingCard,
    checkpoints: z.array(TrainingCard).max(MAX_CHECKPOINTS).optional(),
  }),
]);
export type TrainingEvent = z.infer<typeof TrainingEvent>;

/** How the process of the training program ended. */
export type TrainingEnd =
  | Extract<TrainingEvent, { event: 'ready' | 'failed' | 'stopped' }>
  /** Without a word: it was killed, or crashed. `log` has its last lines, `signal` such as `SIGKILL`. */
  | { event: 'died'; signal: string | null; exitCode: number | null; log: readonly string[] };

/** V8's and the C++ library's words. */
const NO_MEMORY = /heap out of memory|bad_alloc|Array buffer allocation failed/i;

/** Most likely for want of memory: Linux kills a process for it, and says so to nobody. */
export const diedForMemory = ({ signal, log }: Extract<TrainingEnd, { event: 'died' }>): boolean =>
  signal === 'SIGKILL' || NO_MEMORY.test(log.join('\n'));
