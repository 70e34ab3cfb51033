import { startOrigin, type OriginProcess } from '../cli/local/origin-process.ts';
import { LOOPBACK, needFreePort } from '../cli/local/ports.ts';
import { BaseInfo } from '../protocol/origin-wire.ts';
import type { Target } from './load/target.ts';

export interface StandaloneOrigin {
  process: OriginProcess;
  /** Adapter i is `<prefix>i`. */
  target(label: string, prefix: string): Target;
  base: BaseInfo;
}

/**
 * Our origin by itself: plain OpenAI bodies, unsigned, loopback only.
 * @param adapters names and PEFT folders.
 */
export async function startStandaloneOrigin(params: {
  base: string;
  port: number;
  adapters: readonly { name: string; folder: string }[];
  extraArgs: readonly string[];
}): Promise<StandaloneOrigin> {
  const port = await needFreePort({ port: params.port, what: 'origin', flag: '--port' });
  const process = await startOrigin({
    args: [
      '--dev',
      '--port',
      String(port),
      '--base',
      params.base,
      ...params.adapters.flatMap(({ name, folder }) => ['--adapter', `${name}=${folder}`]),
      ...params.extraArgs,
    ],
    env: {},
  });
  const answer = await fetch(`http://${LOOPBACK}:${port}/base`);
  const base = BaseInfo.parse(await answer.json());
  return {
    process,
    base,
    target: (label, prefix) => ({ label, kind: 'openai', host: LOOPBACK, port, prefix, base: base.id }),
  };
}
