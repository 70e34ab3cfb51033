import type { RequestOf } from '../../protocol/index.ts';
import { usageError } from '../flags.ts';
import { parseVersion } from '../admin/version-argument.ts';
import { parseShare } from './experiment-numbers.ts';

export const STEPS = ['start', 'ramp', 'stop', 'kill', 'promote', 'archive'] as const;
export type Step = (typeof STEPS)[number];

export interface StepFlags {
  readonly why?: string | undefined;
  /** Version of the document. */
  readonly expect?: string | undefined;
  readonly coverage?: string | undefined;
  readonly variant?: string | undefined;
  readonly undo?: boolean | undefined;
}

/** @returns the step's body. @throws CliError (usage) */
export function stepRequest(step: Step, flags: StepFlags): RequestOf<`POST /admin/experiments/:id/${Step}`> {
  const { why, expect, coverage, variant, undo } = flags;
  const share = coverage === undefined ? undefined : parseShare(coverage, '--coverage');
  if (share === 0) throw usageError('--coverage 0% would be nobody: use `graft experiment kill` or `stop`.');
  return {
    ...(expect === undefined ? {} : { expect: parseVersion(expect, '--expect') }),
    ...(why === undefined ? {} : { why }),
    ...(step === 'ramp' && share !== undefined ? { coverage: share } : {}),
    ...(step === 'kill' ? { killed: undo !== true } : {}),
    ...(step === 'promote' && variant !== undefined ? { variant } : {}),
  };
}
