/** What may hold at which moment, and whether an answer is one that may come then. */

/** A value that changes: while a change is under way, or if its end is unknown, both values may hold. */
export class Timeline<T> {
  readonly #steps: { at: number; possible: readonly T[] }[];

  constructor(first: T, at = 0) {
    this.#steps = [{ at, possible: [first] }];
  }

  /** A change was sent. */
  sent(at: number, value: T): void {
    this.#steps.push({ at, possible: [...new Set([...this.#now, value])] });
  }

  /** It was acknowledged, or never took place. */
  settled(at: number, value: T): void {
    this.#steps.push({ at, possible: [value] });
  }

  /** What may have held at some moment of these, both included. */
  during(from: number, until: number): ReadonlySet<T> {
    const first = this.#steps.findLastIndex(({ at }) => at <= from);
    const within = this.#steps.filter(({ at }, i) => i >= Math.max(0, first) && at <= until);
    return new Set(within.flatMap(({ possible }) => possible));
  }

  /** What may ever have held, until then. */
  ever(until: number): ReadonlySet<T> {
    return this.during(-Infinity, until);
  }

  /** Null while a change is under way. */
  get certain(): T | null {
    return this.#now.length === 1 ? (this.#now[0] as T) : null;
  }

  get #now(): readonly T[] {
    return this.#steps.at(-1)?.possible ?? [];
  }
}

/** What an answer is compared with. */
export interface Reference {
  readonly text: string;
  readonly finish: string;
}

export interface Answer {
  /** Null when nobody answered. */
  readonly status: number | null;
  readonly stream: boolean;
  /**
   * `clean`: as HTTP wants it. `broken`: the connection broke. `refused`: there was none. `left`: the client went away.
   * `late`: the client lost patience.
   */
  readonly ended: 'clean' | 'broken' | 'refused' | 'left' | 'late';
  readonly body: string;
  /** `x-graft-adapter`: `name@version`. */
  readonly adapter: string | null;
  /** `x-graft-degraded` is `stale`. */
  readonly stale: boolean;
}

/** What was true between a request and the beginning of its answer. */
export interface Truth {
  /** Whether the key was valid; both while it changed. */
  readonly key: ReadonlySet<boolean>;
  /** Whether the name or version was there, for this key. */
  readonly usable: ReadonlySet<boolean>;
  /** Chains that were in force for the name. */
  readonly chains: ReadonlySet<string>;
  /** Chains that ever were, of which a stale answer may be. */
  readonly everChains: ReadonlySet<string>;
  /** Chain of the version in `x-graft-adapter`; null = unknown. */
  readonly said: string | null;
  /** The edge was struck or down meanwhile. */
  readonly edgeStruck: boolean;
}

/**
 * `cut`: an answer that ended early and does not say so. `wrong`: text or rights that were not in force. `lost`: something
 * acknowledged is missing. `stuck`: no end within the patience, or no recovery. `died`: a process ended although no blow had struck it.
 */
export const BREACHES = ['cut', 'wrong', 'lost', 'stuck', 'died'] as const;
export type BreachKind = (typeof BREACHES)[number];

export type Verdict =
  | { kind: 'whole' | 'left' | 'broken' | 'unreachable' }
  /** An error instead of an answer, or at its end. */
  | { kind: 'refused' | 'failed'; code: string }
  | { kind: 'breach'; breach: BreachKind; why: string };

const breach = (kind: BreachKind, why: string): Verdict => ({ kind: 'breach', breach: kind, why });

/** @param referenceOf a chain's answer to this prompt. */
export function judge(answer: Answer, truth: Truth, referenceOf: (chain: string) => Reference): Verdict {
  const { status, ended } = answer;
  if (ended === 'late') return breach('stuck', 'the answer did not end');
  if (ended === 'refused')
    return truth.edgeStruck ? { kind: 'unreachable' } : breach('died', 'the edge takes no connection');
  // The edge has read a whole answer before it says 200; in a stream it can say that it breaks off.
  if (ended === 'broken' && !truth.edgeStruck)
    return breach('cut', 'the connection broke, and nobody struck the edge');
  if (status === null) return { kind: ended === 'left' ? 'left' : 'broken' };
  if (status !== 200) return judgeRefusal(answer, truth);
  if (!truth.key.has(true)) return breach('wrong', 'a key answered that was revoked');
  if (!truth.usable.has(true)) return breach('wrong', 'a name answered that was removed or not granted');

  const read = answer.stream ? readStream(answer.body) : readWhole(answer.body);
  const allowed = answer.stale ? truth.everChains : truth.chains;
  if (truth.said !== null && !allowed.has(truth.said))
    return breach('wrong', `${String(answer.adapter)} answered, which was not in force`);
  const chains = truth.said === null ? [...allowed] : [truth.said];
  if (!chains.some((chain) => referenceOf(chain).text.startsWith(read.text)))
    return breach('wrong', 'the text is of no chain that was in force');
  if (ended !== 'clean') return { kind: ended };
  if (read.error !== null) return { kind: 'failed', code: read.error };
  if (!read.done) return breach('cut', answer.stream ? 'no [DONE], and no error' : 'no whole JSON');
  const whole = chains.some((chain) => {
    const { text, finish } = referenceOf(chain);
    return text === read.text && finish === read.finish;
  });
  return whole
    ? { kind: 'whole' }
    : breach('cut', `less than its reference, and finish_reason ${read.finish}`);
}

/** What a key or a name that is certainly there must not be told. */
const KEY_LOST = new Set(['invalid_api_key']);
const NAME_LOST = new Set(['model_not_found', 'model_withdrawn', 'insufficient_scope', 'not_found']);

function judgeRefusal(answer: Answer, truth: Truth): Verdict {
  const code = errorCode(answer.body);
  if (code === null) {
    if (answer.ended !== 'clean') return { kind: answer.ended === 'left' ? 'left' : 'broken' };
    // The server of a worker that is being killed says so in its own words.
    if (truth.edgeStruck) return { kind: 'broken' };
    return breach('wrong', `status ${answer.status} without an error of graft's`);
  }
  if (KEY_LOST.has(code) && !truth.key.has(false)) return breach('lost', `a valid key got ${code}`);
  if (NAME_LOST.has(code) && !truth.usable.has(false)) return breach('lost', `a name in force got ${code}`);
  return { kind: 'refused', code };
}

interface ReadAnswer {
  text: string;
  finish: string | null;
  /** The whole was read. */
  done: boolean;
  /** Code of the error at the end. */
  error: string | null;
}

interface Choice {
  delta?: { content?: string | null };
  message?: { content?: string | null };
  finish_reason?: string | null;
}
interface Chunk {
  choices?: Choice[];
  error?: { code?: string | null };
}

function parseJson(text: string): Chunk | null {
  try {
    return JSON.parse(text) as Chunk;
  } catch {
    return null;
  }
}

function errorCode(body: string): string | null {
  return parseJson(body)?.error?.code ?? null;
}

/** A chat's events; the last one may be cut. */
export function readStream(body: string): ReadAnswer {
  const read: ReadAnswer = { text: '', finish: null, done: false, error: null };
  for (const frame of body.split('\n\n')) {
    if (!frame.startsWith('data: ')) continue;
    const data = frame.slice('data: '.length);
    if (data === '[DONE]') {
      read.done = read.finish !== null;
      continue;
    }
    const chunk = parseJson(data);
    if (chunk?.error !== undefined) read.error = chunk.error.code ?? 'without a code';
    const choice = chunk?.choices?.[0];
    read.text += choice?.delta?.content ?? '';
    read.finish = choice?.finish_reason ?? read.finish;
  }
  return read;
}

export function readWhole(body: string): ReadAnswer {
  const chunk = parseJson(body);
  const choice = chunk?.choices?.[0];
  return {
    text: choice?.message?.content ?? '',
    finish: choice?.finish_reason ?? null,
    done: choice?.finish_reason != null,
    error: chunk?.error === undefined ? null : (chunk.error.code ?? 'without a code'),
  };
}
