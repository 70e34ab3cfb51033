/** The origins of one machine: one, or one for each of several bases. */
import { z } from 'zod';
import type { Output } from '../output.ts';
import { findBase } from './find-base.ts';
import type { LocalKeys } from './keys-file.ts';
import { nativeRuntime, runsNatively } from './native-runtime.ts';
import { type OriginProcess, originProgress, startOrigin } from './origin-process.ts';
import { LOOPBACK, needFreePort } from './ports.ts';

/** What an origin is started with. */
export interface OriginWish {
  /** A `.gguf` file or a folder in Hugging Face's format; undefined = the pinned base. */
  readonly base: string | undefined;
  /** Further flags. */
  readonly args: readonly string[];
}

/** An origin that can be started. */
export interface LocalOrigin {
  readonly id: string;
  readonly url: string;
  start(): Promise<OriginProcess>;
}

const Ready = z.object({ base: z.string() });

/** @returns id of the base that it serves. */
export const servedBase = ({ ready }: OriginProcess): string => Ready.parse(ready).base;

/**
 * Finds the bases and free ports, and starts nothing.
 * @param params.port of the first; those behind it have the ports behind it, or, where
 * it is 0, any free ones.
 * @param params.edgePort which none of them may have.
 * @throws CliError when a base is not there or a port is taken.
 */
export async function prepareOrigins(params: {
  wishes: readonly [OriginWish, ...OriginWish[]];
  port: number;
  edgePort: number;
  keys: LocalKeys;
  cache: string;
  env: Record<string, string | undefined>;
  output: Output;
  onLog: (part: string) => (line: string) => void;
  /** Registers what is to be called at the end. */
  onEnd: (end: () => Promise<void> | void) => void;
  signal?: AbortSignal;
}): Promise<[LocalOrigin, ...LocalOrigin[]]> {
  const { keys, cache, env, output, signal } = params;
  const runtime = await nativeRuntime({
    ...{ cache, output, wanted: params.wishes.some(({ args }) => runsNatively(args)) },
    ...(signal === undefined ? {} : { signal }),
  });
  const given = [params.edgePort];
  const prepare = async (wish: OriginWish, i: number): Promise<LocalOrigin> => {
    const asked = params.port === 0 ? 0 : params.port + i;
    const port = await needFreePort({ port: asked, what: 'origin', flag: '--origin-port', given });
    given.push(port);
    const base = await findBase({
      ...{ base: wish.base, cache, env, output },
      ...(signal === undefined ? {} : { signal }),
    });
    const id = i === 0 ? keys.originId : `${keys.originId}-${i + 1}`;
    return {
      id,
      url: `http://${LOOPBACK}:${port}`,
      async start() {
        const progress = originProgress(output);
        params.onEnd(progress.end);
        const args = ['--port', String(port), '--base', base, '--cache', cache, '--origin-id', id];
        const started = await startOrigin({
          args: [...args, ...wish.args],
          env: { GRAFT_ORIGIN_KEYS: keys.originKeys, ...runtime },
          onEvent: progress.hear,
          onLog: params.onLog(i === 0 ? 'origin' : `origin-${i + 1}`),
          ...(signal === undefined ? {} : { signal }),
        });
        params.onEnd(() => started.stop());
        return started;
      },
    };
  };
  const [first, ...others] = params.wishes;
  const origins: [LocalOrigin, ...LocalOrigin[]] = [await prepare(first, 0)];
  for (const [i, wish] of others.entries()) origins.push(await prepare(wish, i + 1));
  return origins;
}
