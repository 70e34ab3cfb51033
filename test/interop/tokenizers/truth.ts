import { spawnSync } from 'node:child_process';
import type { MadeMessage } from '../made-conversations.ts';

export interface Cases {
  readonly texts: readonly string[];
  readonly conversations: readonly (readonly MadeMessage[])[];
}

/** What another encodes {@link Cases} to. */
export interface Truth {
  /** Whose tokens they are. */
  readonly by: string;
  readonly texts: readonly (readonly number[])[];
  /** Without ids where the template refuses; none at all without a template. */
  readonly conversations: readonly { readonly ids?: readonly number[] | undefined }[];
}

export function runTool(command: string, args: readonly string[], input = ''): string {
  const ran = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28, input });
  if (ran.error) throw ran.error;
  if (ran.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${ran.stderr.slice(-2_000)}`);
  return ran.stdout;
}
