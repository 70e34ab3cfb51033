/** An experiment as it really runs: the admin API, requests through the edge, an origin behind it, the schedule's look. */
import { expect } from 'vitest';
import { ExperimentView, type ExperimentEvaluation } from '../../../protocol/admin-api/experiments.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createEdgeAndOrigin, type EdgeAndOrigin } from '../edge-and-origin.ts';
import { askAs, makeKey, type Asking } from './experiment-rig.ts';

export const NAME = 'support/intent';
/** Longer than what KV may be behind. */
const LATER_MS = 61_000;

export interface ExperimentPath extends EdgeAndOrigin {
  view: ExperimentView;
  /** Of the tenant that owns the name. */
  key: string;
  /** A chat completion; its body has not been read. */
  chat(asking?: Partial<Asking>): Promise<Response>;
  /** One that is read to its end. */
  answer(asking?: Partial<Asking>): Promise<{ variant: string | null; id: string }>;
  /** The experiment's admin API: `POST /admin/experiments/<id>/<step>`. */
  step(name: string, body?: object): Promise<ExperimentView>;
  /** What a look finds, when all that was noted is written. */
  look(): Promise<ExperimentEvaluation>;
}

/** Two versions of {@link NAME}, half of the units each, live. @param document changes of the document. */
export async function startExperimentPath(
  document: object = {},
  options: Parameters<typeof createEdgeAndOrigin>[0] = {},
): Promise<ExperimentPath> {
  const rig = await createEdgeAndOrigin(options);
  const { edge } = rig;
  for (const seed of [1, 2])
    expect((await edge.publish(NAME, tinyAdapter({ seed }), { owner: 'acme', stage: seed > 1 })).status).toBe(
      201,
    );
  const { key } = await makeKey(edge, { tenant: 'acme' });
  const send = async (path: string, body: object) => {
    const response = await edge.request(`/admin/experiments${path}`, { body });
    const json: unknown = await response.json();
    expect([200, 201], JSON.stringify(json)).toContain(response.status);
    return ExperimentView.parse(json);
  };
  const variants = [
    { key: 'control', adapter: `${NAME}@1`, weight: 0.5 },
    { key: 'treatment', adapter: `${NAME}@2`, weight: 0.5 },
  ];
  // The default seed is the experiment's random id: which units a variant gets would differ from run to run.
  const draft = await send('', { name: NAME, seed: 'path', variants, ...document });
  const view = await send(`/${draft.id}/start`, {});
  edge.clock.advance(LATER_MS);
  const step: ExperimentPath['step'] = (name, body = {}) => send(`/${view.id}/${name}`, body);
  const chat: ExperimentPath['chat'] = ({ more, ...asking } = {}) =>
    askAs(edge, { key, model: NAME, ...asking, more: { max_tokens: 1, ...more } });
  return {
    ...rig,
    ...{ view, key, chat, step },
    async answer(asking) {
      const response = await chat(asking);
      const text = await response.text();
      expect(response.status, text).toBe(200);
      const id = /"id":"([^"]+)"/.exec(text)?.[1] ?? '';
      return { variant: response.headers.get('x-graft-variant'), id };
    },
    async look() {
      await edge.settled();
      const { evaluation } = await step('evaluate');
      if (evaluation === null) throw new Error('nothing was seen');
      return evaluation;
    },
  };
}
