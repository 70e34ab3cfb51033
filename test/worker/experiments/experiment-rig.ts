import { expect } from 'vitest';
import type { AdapterManifest } from '../../../protocol/adapter-manifest.ts';
import { manifestOf } from '../../../worker/registry/write-pointer.ts';
import type { ExperimentEntry } from '../../../worker/experiments/ports.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import type { AppHarness } from '../app-harness.ts';
import { experimentOf } from './sample-experiment.ts';

/** Longer than what KV may be behind. */
export const LATER_MS = 61_000;
export const EXPERIMENT = 'exp_00000000000000aa';
export const NAME = 'support/intent';

/**
 * `support/intent` of the tenant `acme` with six versions, the last one live, and an experiment between its versions 3
 * and 4, as the pointer writer would have written it.
 * @param changes of the document. @param more of the entry.
 */
export async function startExperiment(
  graft: AppHarness,
  changes: Record<string, unknown> = {},
  more: Partial<ExperimentEntry> = {},
): Promise<ExperimentEntry> {
  for (let seed = 1; seed <= 6; seed += 1) {
    expect((await graft.publish(NAME, tinyAdapter({ seed }), { owner: 'acme' })).status).toBe(201);
    graft.clock.advance(LATER_MS);
  }
  const entry: ExperimentEntry = {
    id: EXPERIMENT,
    owner: 'acme',
    document: experimentOf(changes),
    adapters: { control: await versionOf(graft, 3), treatment: await versionOf(graft, 4) },
    shadow: await versionOf(graft, 5),
    ...more,
  };
  await writeExperiment(graft, entry);
  return entry;
}

export async function versionOf(graft: AppHarness, version: number): Promise<AdapterManifest> {
  const row = await graft.services.registry.version(NAME, version);
  if (row === null) throw new Error(`there is no ${NAME}@${version}`);
  return manifestOf(row);
}

/** First the experiment, then the name that points at it. */
export async function writeExperiment(graft: AppHarness, entry: ExperimentEntry): Promise<void> {
  await graft.services.experimentIndex.put(entry);
  const live = await graft.services.registry.live(NAME);
  if (live === null) throw new Error(`${NAME} has no live version`);
  await graft.services.nameIndex.put({ ...manifestOf(live), experiment: entry.id });
  graft.clock.advance(LATER_MS);
}

export async function makeKey(graft: AppHarness, body: object): Promise<{ id: string; key: string }> {
  const made = await graft.request('/admin/keys', { body });
  expect(made.status).toBe(201);
  return (await made.json()) as { id: string; key: string };
}

export interface Asking {
  model?: string;
  key: string;
  user?: string | null;
  headers?: Record<string, string>;
  more?: object;
  signal?: AbortSignal;
}

export const askAs = (
  graft: AppHarness,
  { model = NAME, key, user, headers = {}, more, signal }: Asking,
): Promise<Response> =>
  graft.request('/v1/chat/completions', {
    key,
    headers,
    ...(signal === undefined ? {} : { signal }),
    body: {
      model,
      messages: [{ role: 'user', content: 'hi' }],
      ...(user == null ? {} : { user }),
      ...more,
    },
  });

/** @returns the id of an answer that counts; null of any other, whose id the origin makes up. */
export const ratableId = (text: string): string | null =>
  /"id":"(chatcmpl-[\w-]{102})"/.exec(text)?.[1] ?? null;

/** The labels of an answer, after the prefix. */
export async function labelsOf(response: Response) {
  const id = ratableId(await response.text());
  const of = (label: string) => response.headers.get(`x-graft-${label}`);
  return {
    status: response.status,
    adapter: of('adapter'),
    experiment: of('experiment'),
    variant: of('variant'),
    id,
    degraded: of('degraded'),
  };
}
