import { ExperimentId } from '../../../protocol/index.ts';
import { ExperimentQuery } from '../../experiments/routes.ts';
import type { BodyName } from './bodies.ts';
import type { Operation, Operations } from './operation.ts';

const shared = { tag: 'experiments', key: 'admin', path: { id: ExperimentId } } satisfies Partial<Operation>;
const view = (description: string) => ({ description, schema: 'ExperimentView' }) as const;

const step = (name: string, body: BodyName, summary: string): Operations => ({
  [`POST /admin/experiments/:id/${name}`]: {
    ...shared,
    id: `${name}Experiment`,
    summary,
    description:
      '409 `version_conflict` when it has changed since (`expect`) or its state forbids this; 503 `registry_unavailable` when the change is recorded and the edge was not told yet.',
    body,
    answers: { 200: view('The experiment as it is now.') },
  },
});

export const EXPERIMENT_OPERATIONS: Operations = {
  'POST /admin/experiments': {
    ...shared,
    id: 'createExperiment',
    summary: 'Makes a draft.',
    body: 'CreateExperiment',
    answers: { 201: view('The draft.') },
  },
  'GET /admin/experiments': {
    ...shared,
    id: 'listExperiments',
    summary: "The tenant's experiments, the newest first.",
    query: ExperimentQuery,
    answers: { 200: { description: 'A page of them.', schema: 'ExperimentList' } },
  },
  'GET /admin/experiments/:id': {
    ...shared,
    id: 'readExperiment',
    summary: 'One experiment, with its latest look.',
    answers: { 200: view('The experiment.') },
  },
  'PUT /admin/experiments/:id': {
    ...shared,
    id: 'changeExperiment',
    summary: 'Puts the whole document, its version one higher than the one that was read.',
    description: '409 `version_conflict`, the field in `param`, when its state forbids the change.',
    body: 'ChangeExperiment',
    answers: { 200: view('The experiment as it is now, or would be (`dry_run`).') },
  },
  ...step('start', 'ExperimentStepRequest', 'A draft goes live.'),
  ...step('ramp', 'RampExperiment', 'More coverage, now: the next step of the ramp, or the one given.'),
  ...step(
    'stop',
    'ExperimentStepRequest',
    'Decided, and nobody won: everybody gets the name’s live version.',
  ),
  ...step('kill', 'KillExperiment', 'The kill switch, on or off.'),
  ...step('promote', 'PromoteExperiment', 'Decided: the variant’s version becomes the live one of the name.'),
  ...step('archive', 'ExperimentStepRequest', 'Puts a draft or a decided experiment away.'),
  'POST /admin/experiments/:id/evaluate': {
    ...shared,
    id: 'evaluateExperiment',
    summary: 'Takes a look now, as the schedule does every minute, and carries out what it comes to.',
    answers: { 200: view('The experiment with the fresh look.') },
  },
  'GET /admin/experiments/:id/looks': {
    ...shared,
    id: 'listExperimentLooks',
    summary: 'Looks at the present seed, the oldest first.',
    answers: { 200: { description: 'The looks.', schema: 'ExperimentLooks' } },
  },
};
