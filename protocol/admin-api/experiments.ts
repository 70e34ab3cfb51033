/** Operations of experiments; what they take and answer is in `../experiment-api.ts`. */
import { z } from 'zod';
import {
  ArchiveExperiment,
  ChangeExperiment,
  CreateExperiment,
  ExperimentId,
  KillExperiment,
  PlanExperiment,
  PromoteExperiment,
  RampExperiment,
  StartExperiment,
  StopExperiment,
  ExperimentPlan,
} from '../experiment-api.ts';
import { ExperimentFilter, ExperimentList, ExperimentLooks, ExperimentView } from '../experiment-answers.ts';
import { JudgeSecret, KeptPairList } from '../experiment-judge.ts';
import { EXPERIMENTS_SHOWN, MAX_EXPERIMENT_BODY_BYTES, MAX_EXPERIMENTS_SHOWN } from './limits.ts';
import type { AdminOperationTable } from './operation.ts';

const shared = { tag: 'experiments', rights: 'admin' } as const;
const one = { ...shared, ids: { id: ExperimentId }, query: null } as const;
const view = (description: string): { description: string; schema: typeof ExperimentView } => ({
  description,
  schema: ExperimentView,
});

const step = <Request extends z.ZodType>(id: string, request: Request, summary: string) =>
  ({
    ...one,
    id,
    summary,
    description:
      '409 `version_conflict` when it has changed since (`expect`) or its state forbids this; 503 `registry_unavailable` when the change is recorded and the edge was not told yet.',
    request,
    mayBeEmpty: true,
    answers: { 200: view('The experiment as it is now.') },
  }) as const;

export const EXPERIMENT_OPERATIONS = {
  'POST /admin/experiments': {
    ...shared,
    id: 'createExperiment',
    summary: 'Makes a draft.',
    query: null,
    request: CreateExperiment,
    maxBytes: MAX_EXPERIMENT_BODY_BYTES,
    answers: { 201: view('The draft.') },
  },
  'POST /admin/experiments/plan': {
    ...shared,
    id: 'planExperiment',
    summary: 'What an experiment would be able to tell, and when, by the traffic of its name. Makes nothing.',
    query: null,
    request: PlanExperiment,
    maxBytes: MAX_EXPERIMENT_BODY_BYTES,
    answers: { 200: { description: 'The plan.', schema: ExperimentPlan } },
  },
  'GET /admin/experiments': {
    ...shared,
    id: 'listExperiments',
    summary: "The tenant's experiments, the newest first.",
    query: ExperimentFilter.extend({
      cursor: z.string().max(64).nullable().default(null),
      limit: z
        .string()
        .regex(/^[1-9]\d{0,3}$/, 'must be a positive whole number')
        .transform(Number)
        .pipe(z.int().max(MAX_EXPERIMENTS_SHOWN))
        .default(EXPERIMENTS_SHOWN),
    }),
    request: null,
    answers: { 200: { description: 'A page of them.', schema: ExperimentList } },
  },
  'GET /admin/experiments/:id': {
    ...one,
    id: 'readExperiment',
    summary: 'One experiment, with its latest look.',
    request: null,
    answers: { 200: view('The experiment.') },
  },
  'PUT /admin/experiments/:id': {
    ...one,
    id: 'changeExperiment',
    summary: 'Puts the whole document, its version one higher than the one that was read.',
    description: '409 `version_conflict`, the field in `param`, when its state forbids the change.',
    request: ChangeExperiment,
    maxBytes: MAX_EXPERIMENT_BODY_BYTES,
    answers: { 200: view('The experiment as it is now, or would be (`dry_run`).') },
  },
  'POST /admin/experiments/:id/start': step('startExperiment', StartExperiment, 'A draft goes live.'),
  'POST /admin/experiments/:id/ramp': step(
    'rampExperiment',
    RampExperiment,
    'More coverage, now: the next step of the ramp, or the one given.',
  ),
  'POST /admin/experiments/:id/stop': step(
    'stopExperiment',
    StopExperiment,
    'Decided, and nobody won: everybody gets the name’s live version.',
  ),
  'POST /admin/experiments/:id/kill': step('killExperiment', KillExperiment, 'The kill switch, on or off.'),
  'POST /admin/experiments/:id/promote': step(
    'promoteExperiment',
    PromoteExperiment,
    'Decided: the variant’s version becomes the live one of the name.',
  ),
  'POST /admin/experiments/:id/archive': step(
    'archiveExperiment',
    ArchiveExperiment,
    'Puts a draft or a decided experiment away.',
  ),
  'POST /admin/experiments/:id/evaluate': {
    ...one,
    id: 'evaluateExperiment',
    summary: 'Takes a look now, as the schedule does every minute, and carries out what it comes to.',
    request: null,
    answers: { 200: view('The experiment with the fresh look.') },
  },
  'GET /admin/experiments/:id/pairs': {
    ...one,
    id: 'listKeptPairs',
    summary: 'The last judged pairs with their texts, where `keep_pairs` asks for that; the newest first.',
    description:
      'For the tenant that owns the name alone, not for the bootstrap key of another. 404 for everybody else.',
    request: null,
    answers: { 200: { description: 'The pairs.', schema: KeptPairList } },
  },
  'GET /admin/experiments/:id/judge-secret': {
    ...one,
    id: 'readJudgeSecret',
    summary: 'What the application checks the calls of `judge.url` with.',
    description: 'For the tenant that owns the name alone. 404 where nothing is called.',
    request: null,
    answers: { 200: { description: 'The secret.', schema: JudgeSecret } },
  },
  'GET /admin/experiments/:id/looks': {
    ...one,
    id: 'listExperimentLooks',
    summary: 'Looks at the present seed, the oldest first.',
    request: null,
    answers: { 200: { description: 'The looks.', schema: ExperimentLooks } },
  },
} as const satisfies AdminOperationTable;
