/** Traffic and requests as gatherers keep them: little text, because there is much of it. */
import { emptyHistogram } from './sum-traffic.ts';
import type { EndedCompletion, TrafficRow } from './ports.ts';

/** In the order of {@link TrafficRow}; of a histogram each bucket that is not empty, and its count. */
export type PackedRow = [
  ...[at: number, tenant: string, name: string, keyId: string, status: number, code: string],
  ...[requests: number, promptTokens: number, completionTokens: number, ttft: number[], duration: number[]],
];

const sparse = (counts: readonly number[]): number[] =>
  counts.flatMap((count, bucket) => (count === 0 ? [] : [bucket, count]));

function dense(packed: readonly number[]): number[] {
  const counts = emptyHistogram();
  for (let i = 0; i < packed.length; i += 2) counts[packed[i] ?? 0] = packed[i + 1] ?? 0;
  return counts;
}

export const packRow = (row: TrafficRow): PackedRow => [
  ...([row.at, row.tenant, row.name, row.keyId, row.status, row.code] as const),
  ...([row.requests, row.promptTokens, row.completionTokens] as const),
  ...([sparse(row.ttft), sparse(row.duration)] as const),
];

export function unpackRow(packed: PackedRow): TrafficRow {
  const [at, tenant, name, keyId, status, code, requests, promptTokens, completionTokens, ttft, duration] =
    packed;
  return {
    ...{ at, tenant, name, keyId, status, code, requests, promptTokens, completionTokens },
    ...{ ttft: dense(ttft), duration: dense(duration) },
  };
}

/** Fields of which few different ones are in a list: a number stands for each. */
const WORDS = ['key_id', 'name', 'route', 'code', 'experiment', 'variant', 'origin', 'degraded'] as const;

type PackedRequest = [
  ...[id: string, before: number, version: number, status: number, stream: 0 | 1, cold: 0 | 1, kept: 0 | 1],
  ...[promptTokens: number, completionTokens: number, duration: number, ttft: number | null],
  ...[words: number[], phases: number, ms: number[], requestId?: string | null, unknownName?: string],
];

/** @param requests of one tenant, newest first. @returns JSON, some 130 bytes a request. */
export function packRequests(requests: readonly EndedCompletion[]): string {
  const words = new Map<string, number>();
  const numberOf = (word: string): number => {
    const number = words.get(word) ?? words.size;
    words.set(word, number);
    return number;
  };
  const newest = requests[0]?.at ?? 0;
  const rows = requests.map((request): PackedRequest => [
    ...([request.id, newest - request.at, request.version, request.status] as const),
    ...([request.stream ? 1 : 0, request.cold ? 1 : 0, request.kept === true ? 1 : 0] as const),
    ...([request.prompt_tokens, request.completion_tokens, request.duration_ms, request.ttft_ms] as const),
    WORDS.map((field) => numberOf(request[field])),
    numberOf(JSON.stringify(request.phases.map(({ name }) => name))),
    request.phases.map(({ ms }) => ms),
    ...(request.unknown_name === undefined
      ? request.request_id === undefined
        ? ([] as const)
        : ([request.request_id] as const)
      : ([request.request_id ?? null, request.unknown_name] as const)),
  ]);
  return JSON.stringify([newest, [...words.keys()], rows]);
}

/** @param text of {@link packRequests}. */
export function unpackRequests(text: string, tenant: string): EndedCompletion[] {
  const [newest, words, rows] = JSON.parse(text) as [number, string[], PackedRequest[]];
  return rows.map(
    ([id, before, version, status, stream, cold, kept, prompt, completion, duration, ...more]) => {
      const [ttft, numbers, phases, ms, requestId, unknownName] = more;
      const word = (field: (typeof WORDS)[number]): string =>
        words[numbers[WORDS.indexOf(field)] ?? -1] ?? '';
      const names = JSON.parse(words[phases] ?? '[]') as string[];
      return {
        id,
        ...(requestId == null ? {} : { request_id: requestId }),
        ...{ at: newest - before, tenant, key_id: word('key_id'), name: word('name') },
        ...(unknownName === undefined ? {} : { unknown_name: unknownName }),
        ...{ version, route: word('route'), status, code: word('code'), stream: stream === 1 },
        ...{ experiment: word('experiment'), variant: word('variant'), origin: word('origin') },
        ...{ degraded: word('degraded'), cold: cold === 1 },
        ...(kept === 1 ? { kept: true as const } : {}),
        ...{ prompt_tokens: prompt, completion_tokens: completion, duration_ms: duration, ttft_ms: ttft },
        phases: names.map((name, i) => ({ name, ms: ms[i] ?? 0 })),
      };
    },
  );
}
