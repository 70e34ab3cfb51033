import { expect, it } from 'vitest';
import { keptText, requestsText } from '../../../cli/commands/usage.ts';
import type { KeptPrompt } from '../../../protocol/admin-api/prompts.ts';
import type { RequestView } from '../../../protocol/admin-api/traffic.ts';

const kept = (more: Partial<KeptPrompt> = {}): KeptPrompt => ({
  ...{ id: 'r1', at: Date.UTC(2026, 0, 31, 7, 30), tenant: 'acme', key_id: 'key_1', name: 'notes' },
  ...{ expires_at: Date.UTC(2026, 1, 1, 7, 30), prompt: [{ role: 'user', text: 'one\ntwo' }] },
  ...{ prompt_cut: false, answers: ['said'], answers_cut: false },
  ...more,
});

it('shows a request’s prompt and answer without terminal commands', () => {
  expect(keptText(kept({ answers: ['said \u001b]52;c;cm0=\u0007here'] }))).toBe(
    [
      'r1: notes, ended 2026-01-31 07:30Z, by key_1 of acme; deleted 2026-02-01 07:30Z',
      ...['user', '  one', '  two', 'answer', '  said ]52;c;cm0=here'],
    ].join('\n'),
  );
});

it('lists what is missing', () => {
  const lines = (more: Partial<KeptPrompt>) =>
    keptText(kept({ prompt: [], ...more }))
      .split('\n')
      .slice(1);
  expect(lines({ answers: ['a', 'b'], prompt_cut: true })).toEqual([
    '[the prompt was longer; these are its last messages]',
    ...['answer 1', '  a', 'answer 2', '  b'],
  ]);
  expect(lines({ answers: null })).toEqual(['[no answer]']);
  expect(lines({ answers: null, answers_cut: true })).toEqual(['[the answer was too long to keep]']);
  expect(lines({ answers_cut: true })).toEqual(['answer', '  said', '[the answer was longer]']);
});

it('shows a missing name as such, without terminal commands', () => {
  const request: RequestView = {
    ...{
      id: 'r1',
      at: 0,
      tenant: 'acme',
      key_id: 'key_1',
      name: '',
      unknown_name: 'sup\u001b[2Jport',
      version: 0,
    },
    ...{ route: '/v1/completions', status: 404, code: 'model_not_found', stream: false, experiment: '' },
    ...{ variant: '', origin: '', degraded: '', cold: false, prompt_tokens: 0, completion_tokens: 0 },
    ...{ duration_ms: 1, ttft_ms: null, phases: [] },
  };
  const text = requestsText({ requests: [request], truncated: false, left_out: 0 });
  expect(text).toContain('unknown: sup');
  expect(text).not.toContain('\u001b');
});
