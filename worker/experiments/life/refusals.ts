import type { ApiError } from '../../../protocol/index.ts';
import type { ExperimentRow } from '../ports.ts';

/** Not possible in the state that the experiment is in. @param param the field at fault. */
export const refused = (message: string, param?: string): ApiError => ({
  code: 'version_conflict',
  message,
  ...(param === undefined ? {} : { param }),
});

/** Somebody else changed it, or the caller knows an older document. */
export const changedMeanwhile = ({ id, document: { version, status } }: ExperimentRow): ApiError =>
  refused(
    `Experiment '${id}' has changed: its document is version ${version} now, and it is ${status}. Read it and try again.`,
    'version',
  );

export const overlaps = (others: readonly string[]): ApiError =>
  refused(
    `Experiment '${others.join("', '")}' is live in this namespace, and its range overlaps. ` +
      'Give a range that is free, or stop the other one first.',
    'namespace',
  );
