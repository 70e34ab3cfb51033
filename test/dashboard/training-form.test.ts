import { describe, expect, it } from 'vitest';
import {
  DEFAULT_TRAINING,
  fieldAt,
  jobRequest,
  prefilled,
  type TrainingFields,
  type TrainingProblems,
} from '../../dashboard/model/training-form.ts';
import { JobRequest } from '../../protocol/fine-tuning.ts';
import { TRAINING_DEFAULTS } from '../../protocol/training.ts';

const FILE = `file-${'a'.repeat(24)}`;
const FIELDS: TrainingFields = { ...DEFAULT_TRAINING, name: 'team/notes' };

it('asks for what graft train does unless told otherwise', () => {
  const request = jobRequest(FIELDS, FILE);
  expect(request).toMatchObject({
    ok: true,
    value: {
      model: 'base',
      training_file: FILE,
      seed: TRAINING_DEFAULTS.seed,
      method: {
        type: 'supervised',
        supervised: {
          hyperparameters: {
            n_epochs: TRAINING_DEFAULTS.epochs,
            batch_size: 'auto',
            learning_rate_multiplier: 'auto',
          },
        },
      },
      graft: {
        name: 'team/notes',
        rank: TRAINING_DEFAULTS.rank,
        least_steps: TRAINING_DEFAULTS.least_steps,
        max_length: TRAINING_DEFAULTS.max_length,
        validation: TRAINING_DEFAULTS.validation,
      },
    },
  });
  expect(JobRequest.safeParse(request.ok && request.value).success).toBe(true);
});

it('sends what is typed, and beta for preferences alone', () => {
  const typed = { method: 'dpo', factor: '0,5', batch: '4', beta: '0.2', parent: 'team@2' } as const;
  expect(jobRequest({ ...FIELDS, ...typed }, FILE)).toMatchObject({
    ok: true,
    value: {
      model: 'team@2',
      method: {
        type: 'dpo',
        dpo: { hyperparameters: { learning_rate_multiplier: 0.5, batch_size: 4, beta: 0.2 } },
      },
    },
  });
  expect(JSON.stringify(jobRequest({ ...FIELDS, beta: '0.2' }, FILE))).not.toContain('beta');
});

it('asks for checkpoints where they are wanted', () => {
  expect(JSON.stringify(jobRequest(FIELDS, FILE))).not.toContain('checkpoints');
  const wanted = jobRequest({ ...FIELDS, checkpoints: 'epochs' }, FILE);
  expect(wanted).toMatchObject({ ok: true, value: { graft: { checkpoints: true } } });
  expect(prefilled('checkpoints=epochs').checkpoints).toBe('epochs');
  expect(prefilled('checkpoints=all').checkpoints).toBe('none');
});

it.each<[Partial<TrainingFields>, keyof TrainingProblems]>([
  [{ name: '' }, 'name'],
  [{ name: 'Team' }, 'name'],
  [{ parent: 'a@0' }, 'parent'],
  [{ parent: 'a@1@2' }, 'parent'],
  [{ parent: 'A' }, 'parent'],
  [{ epochs: '0' }, 'epochs'],
  [{ epochs: '1.5' }, 'epochs'],
  [{ rank: '257' }, 'rank'],
  [{ rank: '' }, 'rank'],
  [{ factor: '0' }, 'factor'],
  [{ batch: 'x' }, 'batch'],
  [{ leastSteps: '0' }, 'leastSteps'],
  [{ heldOut: '51' }, 'heldOut'],
  [{ maxLength: '15' }, 'maxLength'],
  [{ seed: '-1' }, 'seed'],
  [{ method: 'dpo', beta: '11' }, 'beta'],
])('says what is wrong with %j at its field', (wrong, field) => {
  const request = jobRequest({ ...FIELDS, ...wrong }, FILE);
  expect(request.ok ? [] : Object.keys(request.error)).toEqual([field]);
  expect(request.ok ? '' : request.error[field]).toMatch(/^[A-Z].*\.$/);
});

it('names every wrong field at once', () => {
  const request = jobRequest({ ...FIELDS, name: '', rank: '0', seed: 'x' }, FILE);
  expect(request.ok ? [] : Object.keys(request.error).sort()).toEqual(['name', 'rank', 'seed']);
});

it.each([
  ['training_file', 'file'],
  ['model', 'parent'],
  ['suffix', 'name'],
  ['graft.name', 'name'],
  ['graft.rank', 'rank'],
  ['learning_rate_multiplier', 'factor'],
  ['method.supervised.hyperparameters.n_epochs', 'epochs'],
])('finds the field of the edge’s %s', (param, field) => expect(fieldAt(param.split('.'))).toBe(field));

describe('an address', () => {
  it('prefills the fields that it names', () => {
    expect(prefilled('name=a/b&parent=a%401&method=dpo&rank=4&nothing=1')).toEqual({
      ...DEFAULT_TRAINING,
      ...{ name: 'a/b', parent: 'a@1', method: 'dpo', rank: '4' },
    });
    expect(prefilled('')).toEqual(DEFAULT_TRAINING);
    expect(prefilled('method=reinforcement').method).toBe('supervised');
  });
});
