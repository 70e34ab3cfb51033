import { expect, it } from 'vitest';
import { GraftError } from '../../browser/messages.ts';
import {
  MAY_NOT_DOWNLOAD,
  mayNotDownload,
  browserProblem,
  Refused,
} from '../../dashboard/api/browser-engine.ts';
import { noAnswer } from '../../dashboard/model/problem.ts';

it.each<[unknown, string, string, RegExp]>([
  [
    new GraftError({ code: 'storage_full', message: 'It is full.' }),
    'storage_full',
    'It is full.',
    /^Remove what is stored/,
  ],
  [new GraftError({ code: 'storage_unavailable', message: 'None.' }), 'storage_unavailable', 'None.', /^$/],
  [new Refused(noAnswer()), 'no_answer', 'The edge does not answer.', /^Check that it runs/],
  [
    new Refused(mayNotDownload({ ...noAnswer(), code: 'insufficient_scope', message: 'No.' })),
    ...([MAY_NOT_DOWNLOAD, 'No.', /graft keys create --download/] as const),
  ],
  [new TypeError('broken'), 'internal_error', 'broken', /^Reload the page/],
  // Another error with a code, such as Node's or a DOMException's.
  [Object.assign(new Error('odd'), { code: 7 }), 'internal_error', 'odd', /^Reload the page/],
  ['thrown', 'internal_error', 'thrown', /^Reload the page/],
])('says of %s what it is and what to do', (error, code, message, advice) => {
  expect(browserProblem(error)).toMatchObject({ code, message, advice: expect.stringMatching(advice) });
});

it('keeps the invalid field', () => {
  const error = new GraftError({ code: 'invalid_request', message: 'No.', param: 'temperature' });
  expect(browserProblem(error).param).toBe('temperature');
});
