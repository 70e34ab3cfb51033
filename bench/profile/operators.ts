import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';

interface TraceEvent {
  cat: string;
  name: string;
  /** Microseconds. */
  dur: number;
  args?: { op_name?: string; input_type_shape?: Record<string, number[]>[] };
}

/** A prefill chunk of attention has more than one position; `[rows, positions, …]`. */
const isDecode = ({ args }: TraceEvent): boolean =>
  Object.values(args?.input_type_shape?.[0] ?? {})[0]?.[1] === 1;

/**
 * Sums ONNX Runtime's own profiles.
 * @param prefix of the files' paths. @returns share of the decode steps' time by operator, largest first.
 */
export async function operatorShares(
  prefix: string,
): Promise<{ operator: string; ms: number; share: number }[]> {
  const folder = path.dirname(prefix);
  const byOperator = new Map<string, number>();
  for (const file of await readdir(folder)) {
    if (!file.startsWith(path.basename(prefix))) continue;
    for (const event of JSON.parse(await readFile(path.join(folder, file), 'utf8')) as TraceEvent[]) {
      const operator = event.args?.op_name;
      if (event.cat !== 'Node' || operator === undefined || !event.name.endsWith('_kernel_time')) continue;
      if (isDecode(event)) byOperator.set(operator, (byOperator.get(operator) ?? 0) + event.dur / 1000);
    }
  }
  const all = [...byOperator.values()].reduce((sum, ms) => sum + ms, 0);
  return [...byOperator]
    .map(([operator, ms]) => ({ operator, ms, share: ms / all }))
    .sort((a, b) => b.ms - a.ms);
}
