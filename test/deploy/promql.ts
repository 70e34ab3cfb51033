/** What PromQL expressions name, read without their grammar: enough for a dashboard and alerts. */
import type { Metrics } from '../../gpu-origin/http/metrics.ts';
import { startTestOrigin } from '../gpu-origin/http/harness.ts';

const WORDS = new Set(['by', 'without', 'on', 'ignoring', 'group_left', 'group_right', 'bool', 'offset']);
const OPERATORS = new Set(['and', 'or', 'unless']);

/** @returns names of series that an expression selects, and labels that it groups by or matches. */
export function readPromql(expr: string): { names: string[]; labels: string[] } {
  const labels: string[] = [];
  const note = (list: string): void =>
    void labels.push(...list.split(',').flatMap((one) => /^\s*(\w+)/.exec(one)?.[1] ?? []));
  const names = expr
    .replace(/"[^"]*"|'[^']*'/g, '""')
    .replace(/\{([^}]*)\}/g, (_, matchers: string) => {
      note(matchers);
      return ' ';
    })
    .replace(/\[[^\]]*\]/g, ' ')
    .replace(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)/g, (_, list: string) => {
      note(list);
      return ' ';
    })
    .matchAll(/(?<![\w:.])[a-zA-Z_:][\w:]*(?!\w*\s*\()/g);
  return {
    names: [...names].map(([name]) => name).filter((name) => !WORDS.has(name) && !OPERATORS.has(name)),
    labels,
  };
}

/** Of a metric's name, where a histogram is asked for one of its parts. */
const PART = /_(bucket|sum|count)$/;

/** What Prometheus adds to what it scrapes. */
const ADDED = { names: new Set(['up']), labels: new Set(['instance', 'job']) };

export interface Scraped {
  /** Name -> type. */
  types: ReadonlyMap<string, string>;
  /** @returns the metric's name and type; undefined where no series has that name. */
  metricOf(name: string): { name: string; type: string } | undefined;
  /** Whether a series of this name has the label. */
  hasLabel(name: string, label: string): boolean;
  isAdded(name: string): boolean;
}

/** What `/metrics` of a whole origin says after one of each that happens to it. */
export async function scrapeOrigin(): Promise<Scraped> {
  const origin = await startTestOrigin();
  try {
    const post = async (path: string, body: object): Promise<void> => {
      const response = await fetch(origin.url + path, { method: 'POST', body: JSON.stringify(body) });
      await response.text();
    };
    const chat = { model: 'alice/notes', messages: [{ role: 'user', content: 'hello' }], max_tokens: 4 };
    await post('/v1/chat/completions', { ...chat, ignore_eos: true });
    await post('/v1/chat/completions', { ...chat, stream: true });
    await post('/v1/completions', { model: 'base', prompt: 'hello', max_tokens: 2 });
    await post('/v1/embeddings', { model: 'base', input: 'hello' });
    await post('/v1/completions', { model: 'nobody', prompt: 'hello' });
    await post('/v1/completions', { model: 'base', prompt: [1_000_000] });
    noteRareEvents(origin.context.metrics);
    return readScraped(await (await fetch(`${origin.url}/metrics`)).text());
  } finally {
    await origin.stop();
  }
}

function noteRareEvents(metrics: Metrics): void {
  metrics.onJobEnd('done');
  metrics.onSpans('sent', 1);
  metrics.observer.onFault({ where: 'step', error: null, requestIds: [] });
  metrics.observer.onRefuse({
    id: 'r1',
    tenant: 't1',
    error: { code: 'queue_full', message: 'The queue is full.', retryAfterMs: 1 },
  });
}

function readScraped(text: string): Scraped {
  const types = new Map(
    [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => [name, type]),
  );
  const labels = new Map<string, Set<string>>();
  for (const [, name = '', , list = ''] of text.matchAll(/^([a-zA-Z_:][\w:]*)(\{(.*)\})? \S+$/gm)) {
    const known = labels.get(name) ?? new Set();
    for (const [, label = ''] of list.matchAll(/(\w+)="/g)) known.add(label);
    labels.set(name, known);
  }
  return {
    types,
    metricOf(name) {
      if (!labels.has(name)) return undefined;
      const metric = types.has(name) ? name : name.replace(PART, '');
      const type = types.get(metric);
      return type === undefined ? undefined : { name: metric, type };
    },
    hasLabel: (name, label) => ADDED.labels.has(label) || labels.get(name)?.has(label) === true,
    isAdded: (name) => ADDED.names.has(name),
  };
}
