/** What edge and origin tell each other of a completion beside its bodies: in headers, a stream's comments, parameters of its path, and one question after it. */
import { z } from 'zod';
import { toHex } from './identity.ts';

/**
 * What an origin tells the edge of a completion's tokens, beside the answer: in the header of a whole answer
 * (`x-graft-usage: prompt=12,completion=34`), and of a stream `prompt=12` in the header and both in a comment between
 * its last events (`: graft-usage prompt=12,completion=34`). A client that did not ask for usage sees none of it. With the
 * tokens comes how the answer ended (`,finish=length`); origins before that do not say it.
 */
export const USAGE_HEADER = 'x-graft-usage';
export const USAGE_COMMENT = ': graft-usage ';

export interface UsageNote {
  promptTokens: number;
  /** null while it is not known. */
  completionTokens: number | null;
  /**
   * `length`: at least one of the answer's choices was cut at its length. `left`: its reader was too slow, and the
   * answer was given up. Absent while it is not known.
   */
  finish?: 'stop' | 'length' | 'left';
}

export function writeUsageNote({ promptTokens, completionTokens, finish }: UsageNote): string {
  const prompt = `prompt=${promptTokens}`;
  if (completionTokens === null) return prompt;
  const end = finish === undefined ? '' : `,finish=${finish}`;
  return `${prompt},completion=${completionTokens}${end}`;
}

/** @returns null for what is none. */
export function readUsageNote(text: string | null): UsageNote | null {
  const match = /^prompt=(\d{1,9})(?:,completion=(\d{1,9})(?:,finish=(stop|length|left))?)?$/.exec(
    text?.trim() ?? '',
  );
  if (match === null) return null;
  const finish = match[3] as UsageNote['finish'];
  return {
    promptTokens: Number(match[1]),
    completionTokens: match[2] === undefined ? null : Number(match[2]),
    ...(finish === undefined ? {} : { finish }),
  };
}

/** @returns how an answer ended that came to its end; null for what did not, or when nobody says. */
export const finishOf = (note: UsageNote | null): 'stop' | 'length' | null =>
  note?.finish === undefined || note.finish === 'left' ? null : note.finish;

/**
 * Query parameter of an edge's requests whose configuration says which base the origin serves: the base's id. An origin
 * that serves another one refuses with `origin_unavailable`; one of before there was this passes over it.
 */
export const BASE_PARAMETER = 'base';

/** @param path may have a query. @param base null = whatever base the origin serves. */
export const pathForBase = (path: string, base: string | null): string =>
  base === null
    ? path
    : `${path}${path.includes('?') ? '&' : '?'}${BASE_PARAMETER}=${encodeURIComponent(base)}`;

/**
 * What the edge may ask an origin about a completion whose end it has not seen, because the client left it: the usage
 * note is in the header of a whole answer and at the end of a stream, and neither comes any more.
 */

/**
 * Parameter of a completion's path, `?ask=<uuid>`: the id under which the edge may ask. A request's own id may be its
 * client's choice, and so the same for two of them.
 */
export const ASK_PARAMETER = 'ask';
export const AskId = z.uuid();

/** Path of the question. */
export const usagePath = (askId: string): string => `/usage/${askId}`;

/** Answer of `GET /usage/<ask id>`; tokens are those that the model has really run. */
export const RequestUsage = z.object({
  /** `unknown`: no such request came, or it ended long ago. */
  state: z.enum(['running', 'ended', 'unknown']),
  prompt_tokens: z.int().min(0),
  completion_tokens: z.int().min(0),
});
export type RequestUsage = z.infer<typeof RequestUsage>;

/** What stands before it: of chat completions, completions, responses and messages. */
const PREFIXES = ['chatcmpl-', 'cmpl-', 'resp_', 'msg_'];

/**
 * Parameter of a completion's path to an origin, `?answer=<text>`: what the answer's id ends with. An origin of before
 * does not know it, and makes one of its own.
 */
export const ANSWER_PARAMETER = 'answer';
/** With the longest prefix at most 120 characters; letters that stand in a URL and in JSON as they are. */
export const AnswerText = z.string().regex(/^[A-Za-z0-9_-]{1,111}$/);

/** @returns an id's text behind its prefix; null when it has none of ours. */
export function answerTextOf(id: string): string | null {
  const prefix = PREFIXES.find((one) => id.startsWith(one));
  return prefix === undefined ? null : id.slice(prefix.length);
}

/**
 * What an origin says of itself with each answer to the edge: `x-graft-load: <rows running or waiting>/<rows that fit>`,
 * followed by `;draining` when it is going away.
 */
export const LOAD_HEADER = 'x-graft-load';
const LOAD = /^(\d{1,6})\/(\d{1,6})(;draining)?$/;

export interface OriginLoad {
  /** Rows that run, wait for a slot, or wait for an adapter. */
  rows: number;
  /** Rows that run at once; at least 1. */
  slots: number;
  /** It will refuse requests soon. */
  draining: boolean;
}

export const writeLoad = ({ rows, slots, draining }: OriginLoad): string =>
  `${rows}/${slots}${draining ? ';draining' : ''}`;

/** @returns null for what is none. */
export function readLoad(header: string | null): OriginLoad | null {
  const match = LOAD.exec(header ?? '');
  if (match === null || Number(match[2]) === 0) return null;
  return { rows: Number(match[1]), slots: Number(match[2]), draining: match[3] !== undefined };
}

/**
 * What an origin tells the edge of an answer that waited for an adapter to be read into memory, in its header
 * (`x-graft-cold: true`); absent otherwise. What it lacked altogether the edge knows itself.
 */
export const COLD_HEADER = 'x-graft-cold';

/**
 * W3C Trace Context (https://www.w3.org/TR/trace-context/), as far as it crosses here: `traceparent` alone, version 00.
 * No `tracestate` and no `baggage`, whose words are others'. The header is outside of the signature on the way to an
 * origin: what it says goes into logs and to the engine, and decides nothing.
 */

export const TRACEPARENT_HEADER = 'traceparent';

/** Of whoever sent the request. */
export interface Traceparent {
  /** 32 hex digits, not all 0. */
  traceId: string;
  /** The sender's span: 16 hex digits, not all 0. */
  spanId: string;
  sampled: boolean;
}

const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/;

/** @returns null for what is none, or of a later version: it is left out, not mended. */
export function parseTraceparent(header: string | null | undefined): Traceparent | null {
  const match = TRACEPARENT.exec(header ?? '');
  if (match === null) return null;
  const [, traceId = '', spanId = '', flags = ''] = match;
  // Of the flags only the first is defined; others are not passed on.
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

/**
 * The header for one hop: the same trace, and a span of its own.
 * @param random 8 bytes, not all 0; given only by tests.
 */
export function nextTraceparent(
  { traceId, sampled }: Traceparent,
  random: Uint8Array = crypto.getRandomValues(new Uint8Array(8)),
): string {
  const spanId = toHex(random);
  return `00-${traceId}-${/^0+$/.test(spanId) ? '0000000000000001' : spanId}-${sampled ? '01' : '00'}`;
}
