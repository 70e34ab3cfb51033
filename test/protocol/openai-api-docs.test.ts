import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  ChatCompletionRequest,
  EdgeFields,
  parseChatCompletion,
  parseResponse,
  parseTextCompletion,
  ResponseRequest,
  TextCompletionRequest,
} from '../../protocol/index.ts';

const page = readFileSync(new URL('../../docs/openai-api.md', import.meta.url), 'utf8');
const rows = [
  ...page.matchAll(
    /^\| `(\w+)` +\| (yes|ignored|refused|edge|-) +\| (yes|ignored|refused|edge|-) +\| (yes|ignored|refused|edge|-) +\|/gm,
  ),
].map(([, field, ...cells]) => ({ field: field!, cells }));

const routes = [
  {
    route: 'chat',
    fields: Object.keys(ChatCompletionRequest.shape),
    parse: (body: object) =>
      parseChatCompletion({ model: 'm', messages: [{ role: 'user', content: 'a' }], ...body }),
  },
  {
    route: 'text',
    fields: Object.keys(TextCompletionRequest.shape),
    parse: (body: object) => parseTextCompletion({ model: 'm', prompt: 'a', ...body }),
  },
  {
    route: 'responses',
    fields: Object.keys(ResponseRequest.shape),
    parse: (body: object) => parseResponse({ model: 'm', input: 'a', ...body }),
  },
];

describe.each(routes.map((route, column) => ({ ...route, column })))(
  'docs/openai-api.md, $route',
  ({ column, fields, parse }) => {
    const cells = rows.map(({ field, cells: all }) => ({ field, cell: all[column] }));

    it('has every field that is taken, and no other', () => {
      const taken = cells
        .filter(({ cell }) => cell === 'yes' || cell === 'ignored')
        .map(({ field }) => field);
      expect(taken.sort()).toEqual(fields.sort());
    });

    it.each(cells.filter(({ cell }) => cell === 'refused'))('refuses $field by name', ({ field }) => {
      expect(parse({ [field]: { a: 1 } })).toMatchObject({
        error: { code: 'unsupported_parameter', param: field },
      });
      expect(parse({ [field]: null }).ok).toBe(true);
    });

    it('leaves to the edge what is its own, and nothing else', () => {
      const ours = cells.filter(({ cell }) => cell === 'edge').map(({ field }) => field);
      expect(ours.sort()).toEqual(Object.keys(EdgeFields.shape).sort());
      for (const field of ours)
        expect(parse({ [field]: true })).toMatchObject({
          error: { code: 'unsupported_parameter', param: field },
        });
    });

    it.each(cells.filter(({ cell }) => cell === '-'))('does not know $field', ({ field }) => {
      expect(parse({ [field]: 1 })).toMatchObject({ error: { code: 'invalid_request', param: field } });
    });
  },
);
