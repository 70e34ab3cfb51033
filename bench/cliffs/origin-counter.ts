import type { Target } from '../load/target.ts';

/** @returns the sums over all labels of these Prometheus metrics of a standalone origin; 0 for one that it does not show. */
export async function originCounter(
  target: Pick<Target, 'host' | 'port'>,
  names: readonly string[],
): Promise<number[]> {
  const answer = await fetch(`http://${target.host}:${target.port}/metrics`);
  if (!answer.ok) throw new Error(`/metrics: status ${answer.status}`);
  const lines = (await answer.text()).split('\n');
  return names.map((name) =>
    lines
      .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0),
  );
}
