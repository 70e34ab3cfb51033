import { AdapterFormatError } from '../../adapters/index.ts';
import { CliError, EXIT } from '../cli-error.ts';

/**
 * What the adapter toolkit refuses, in a command's words: the file, the reason, the code.
 * @param where the file, unless the error names one.
 * @returns a CliError: `adapter_invalid` (refused), or `base_needed` (usage), which is no fault of the adapter.
 * Everything else that was thrown, unchanged.
 */
export function asRefusal(error: unknown, where: string): unknown {
  if (!(error instanceof AdapterFormatError)) return error;
  const message = `${error.path ?? where}: ${error.message} (${error.code})`;
  return error.code === 'base_needed'
    ? new CliError({ message, exitCode: EXIT.usage, code: 'base_needed' })
    : new CliError({ message, exitCode: EXIT.refused, code: 'adapter_invalid', reason: error.code });
}
