import type { ApiError } from '../../../protocol/index.ts';
import { conflict } from '../../errors.ts';
import { webhookProblem } from '../webhook-address.ts';
import type { ExperimentRow } from '../ports.ts';

/** Somebody else changed it, or the caller knows an older document. */
export const changedMeanwhile = ({ id, document: { version, status } }: ExperimentRow): ApiError =>
  conflict(
    `Experiment '${id}' has changed: its document is version ${version} now, and it is ${status}. Read it and try again.`,
    'version',
  );

export const overlaps = (others: readonly string[]): ApiError =>
  conflict(
    `Experiment '${others.join("', '")}' is live in this namespace, and its range overlaps. ` +
      'Give a range that is free, or stop the other one first.',
    'namespace',
  );

/** A guardrail stands against the direction of its metric. @param prefix of the field's path. */
export const guardrailRefused = (
  { index, message }: { index: number; message: string },
  prefix = '',
): ApiError => {
  const param = `${prefix}guardrails.${index}`;
  return { code: 'invalid_request', message: `Invalid value for '${param}': ${message}.`, param };
};

/** The document's webhook is no address that this edge may call; null = it is, or there is none. */
export function webhookRefused(webhook: string | undefined, loopback: boolean, prefix = ''): ApiError | null {
  const problem = webhook === undefined ? null : webhookProblem(webhook, loopback);
  const param = `${prefix}webhook`;
  return problem === null
    ? null
    : { code: 'invalid_request', message: `Invalid value for '${param}': ${problem}.`, param };
}
