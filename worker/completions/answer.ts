/** A completion's answer: what serves it or stands in, and what its headers and usage say of that. */
import {
  err,
  type ApiError,
  type Result,
  IGNORED_HEADER,
  readIgnored,
  writeIgnored,
} from '../../protocol/index.ts';
import type { Caller } from '../access/ports.ts';
import type { OriginPhase, RequestTrace } from '../http/request-scope.ts';
import type { OriginClient } from '../origins/client.ts';
import type { Resolution, Resolved } from './resolve-model.ts';

type Answer = Awaited<ReturnType<OriginClient['complete']>>;

/** Nobody can run the adapter now; another adapter, or none, could be run. */
const ABOUT_THE_ADAPTER = new Set(['adapter_unavailable', 'adapter_invalid', 'registry_unavailable']);

/**
 * Has the resolution answered, or, when its adapters cannot be had, what the key's policy lets stand in for it.
 * @returns the first answer when nothing else did better.
 */
export async function answerOrStandIn(
  resolved: Resolved,
  ask: (resolution: Resolution) => Promise<Answer>,
): Promise<{ resolution: Resolution; answer: Answer }> {
  const { resolution } = resolved;
  const answer = await ask(resolution);
  if (!(await lacksAdapter(answer))) return { resolution, answer };
  for (const instead of await resolved.standIns()) {
    const other = await ask(instead);
    if (!(await lacksAdapter(other))) {
      await discard(answer);
      return { resolution: instead, answer: other };
    }
    await discard(other);
  }
  return { resolution, answer };
}

async function lacksAdapter(answer: Answer): Promise<boolean> {
  const error = answer.ok ? await refusalOf(answer.value.response) : answer;
  return !error.ok && ABOUT_THE_ADAPTER.has(error.error.code);
}

/** An origin's refusal, read from a copy: its body is small, and has been read before. */
async function refusalOf(response: Response): Promise<Result<null, Pick<ApiError, 'code'>>> {
  const none = { ok: true, value: null } as const;
  if (response.status !== 503 && response.status !== 422) return none;
  try {
    const { error } = (await response.clone().json()) as { error: Pick<ApiError, 'code'> };
    return err(error);
  } catch {
    return none;
  }
}

async function discard(answer: Answer): Promise<void> {
  if (answer.ok) await answer.value.response.body?.cancel();
}

/** What the client is told of what served it. @param declared ids of the bases, where the configuration says them. */
export function labels(caller: Caller, resolution: Resolution, declared: readonly string[] | null): Headers {
  const { manifest, chainId, composed, alias, inherited, degraded } = resolution;
  const headers = new Headers({
    'x-graft-adapter': manifest === null ? 'base' : `${manifest.name}@${manifest.version}`,
    'x-graft-chain': chainId,
  });
  const base = resolution.base ?? declared?.[0];
  if (declared !== null && base !== undefined) headers.set('x-graft-base', base);
  if (composed.length > 0) headers.set('x-graft-composed', composed.join(', '));
  if (alias !== null) headers.set('x-graft-alias', alias);
  if (inherited) headers.set('x-graft-inherited', 'true');
  const stale = caller.stale || resolution.stale;
  if (degraded !== null || stale) headers.set('x-graft-degraded', degraded ?? 'stale');
  return headers;
}

/** A base model, as usage has it: the default one under the name that means it. */
export function usageName({ manifest, base }: Resolution, declared: readonly string[] | null) {
  if (manifest !== null) return { name: manifest.name, version: manifest.version };
  const isDefault = base === null || declared === null || base === declared[0];
  return { name: isDefault ? 'base' : base, version: 0 };
}

/** An origin's headers that are the client's to see. */
const PASSED_ON = ['content-type', 'retry-after', 'retry-after-ms', 'x-should-retry'];

/**
 * What the client is told of its answer itself.
 * @param ignored what the edge has left out of the request; the origin says what it has.
 */
export function tellOfAnswer(headers: Headers, origin: Headers, ignored: readonly string[]): void {
  for (const name of PASSED_ON) {
    const value = origin.get(name);
    if (value !== null) headers.set(name, value);
  }
  const all = writeIgnored([...ignored, ...readIgnored(origin.get(IGNORED_HEADER))]);
  if (all !== null) headers.set(IGNORED_HEADER, all);
  // Caches and proxies must neither keep nor collect a stream.
  headers.set('cache-control', 'no-store');
  headers.set('x-accel-buffering', 'no');
}

/** The first version of OpenAI's client for Go that does not take the blank line behind a comment for an event. */
const GO_TAKES_COMMENTS = [3, 43] as const;

/** @param headers of the request. @returns whether its client reads a stream with comments. */
export function takesComments(headers: Headers): boolean {
  if (headers.get('x-stainless-lang') !== 'go') return true;
  const version = /^(\d{1,6})\.(\d{1,6})/.exec(headers.get('x-stainless-package-version') ?? '');
  const [major, minor] = GO_TAKES_COMMENTS;
  const has = Number(version?.[1] ?? 0);
  return has > major || (has === major && Number(version?.[2]) >= minor);
}

/** An origin's own phases: short names and milliseconds, nothing else is passed on. */
const ORIGIN_PHASE = /^([a-z]{1,20});dur=(\d{1,7}(?:\.\d{1,3})?)$/;
const MAX_ORIGIN_PHASES = 8;

/**
 * `Server-Timing`: what the answer waited for, ms. Phases of the edge overlap (the key is read beside the name);
 * those of the origin lie within `origin`.
 */
export function serverTiming(trace: RequestTrace, ofOrigin: readonly OriginPhase[]): string {
  const own = [...trace.phases()].map(([name, ms]) => `${name};dur=${ms}`);
  const inner = ofOrigin.map(([name, ms]) => `origin-${name};dur=${ms}`);
  return [...own, ...inner].join(', ');
}

/** @param header an origin's `Server-Timing`. */
export const readOriginPhases = (header: string | null): OriginPhase[] =>
  (header ?? '')
    .split(/, */)
    .map((entry) => ORIGIN_PHASE.exec(entry))
    .filter((match) => match !== null)
    .slice(0, MAX_ORIGIN_PHASES)
    .map(([, name = '', ms]) => [name, Number(ms)]);
