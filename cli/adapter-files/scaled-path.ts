import { access } from 'node:fs/promises';
import { usageError } from '../flags.ts';

export interface ScaledPath {
  readonly path: string;
  /** 1 unless given. */
  readonly scale: number;
}

/** A decimal number behind the last colon. */
const SCALED = /^(.+):([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)$/i;

/**
 * @param given `path` or `path:scale`; something that exists under the whole name is a path.
 * @throws CliError (usage) for a scale that is 0 or no finite number.
 */
export async function parseScaledPath(given: string): Promise<ScaledPath> {
  const match = SCALED.exec(given);
  const [, path, text] = match ?? [];
  if (path === undefined || text === undefined || (await exists(given))) return { path: given, scale: 1 };
  const scale = Number(text);
  if (scale !== 0 && Number.isFinite(scale)) return { path, scale };
  throw usageError(`${given}: a scale is a number other than 0.`);
}

const exists = (entry: string): Promise<boolean> =>
  access(entry).then(
    () => true,
    () => false,
  );
