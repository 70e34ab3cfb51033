import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { CHAT_RULES, RESPONSE_RULES, TEXT_RULES, type ParseOptions } from '../../protocol/parse-body.ts';
import {
  ChatCompletionRequest,
  EdgeFields,
  parseChatCompletion,
  parseTextCompletion,
  TextCompletionRequest,
} from '../../protocol/completion.ts';
import { parseResponse, ResponseRequest } from '../../protocol/responses.ts';

const page = readFileSync(new URL('../../docs/openai-api.md', import.meta.url), 'utf8');
const STATE = '(yes|clamped|ignored|refused|edge|-)';
const ROW = new RegExp(`^\\| ((?:\`\\w+\`(?:, )?)+) +\\| ${STATE} +\\| ${STATE} +\\| ${STATE} +\\|`, 'gm');
const rows = [...page.matchAll(ROW)].flatMap(([, fields, ...cells]) =>
  fields!.split(', ').map((field) => ({ field: field.replaceAll('`', ''), cells })),
);

/** A value that asks for something, where `{"a": 1}` does not. */
const ASKS: Record<string, unknown> = {
  n: 2,
  response_format: { type: 'json_object' },
  text: { format: { type: 'json_object' } },
  truncation: 'auto',
};

const routes = [
  {
    route: 'chat',
    fields: Object.keys(ChatCompletionRequest.shape),
    rules: CHAT_RULES,
    parse: (body: object, options?: ParseOptions) =>
      parseChatCompletion({ model: 'm', messages: [{ role: 'user', content: 'a' }], ...body }, options),
  },
  {
    route: 'text',
    fields: Object.keys(TextCompletionRequest.shape),
    rules: TEXT_RULES,
    parse: (body: object, options?: ParseOptions) =>
      parseTextCompletion({ model: 'm', prompt: 'a', ...body }, options),
  },
  {
    route: 'responses',
    fields: Object.keys(ResponseRequest.shape),
    rules: RESPONSE_RULES,
    parse: (body: object, options?: ParseOptions) =>
      parseResponse({ model: 'm', input: 'a', ...body }, options),
  },
];

describe.each(routes.map((route, column) => ({ ...route, column })))(
  'docs/openai-api.md, $route',
  ({ column, fields, rules, parse }) => {
    const cells = rows.map(({ field, cells: all }) => ({ field, cell: all[column]! }));
    const of = (...states: string[]) => cells.filter(({ cell }) => states.includes(cell));
    const asking = (field: string) => ({ [field]: ASKS[field] ?? { a: 1 } });

    it('lists every supported field, and no other, once', () => {
      const taken = of('yes', 'clamped').map(({ field }) => field);
      expect(taken.sort()).toEqual(fields.sort());
      expect(new Set(cells.map(({ field }) => field)).size).toBe(cells.length);
    });

    it('lists every field with a rule', () => {
      const named = new Set(cells.map(({ field }) => field));
      expect([...rules.keys()].filter((field) => !named.has(field))).toEqual([]);
    });

    it.each(of('clamped'))('takes any $field', ({ field }) => {
      expect(parse({ [field]: 1e6 }).ok).toBe(true);
    });

    it.each(of('refused'))('refuses $field by name', ({ field }) => {
      expect(parse(asking(field))).toMatchObject({
        error: { code: 'unsupported_parameter', param: field },
      });
      expect(parse({ [field]: null })).toMatchObject({ ok: true, value: { ignored: [] } });
    });

    it.each(of('ignored', '-'))('leaves $field out, and says so', ({ field, cell }) => {
      const left = parse(asking(field));
      expect(left).toMatchObject({ ok: true, value: { ignored: [field] } });
      expect(left.ok && field in left.value.request).toBe(false);
      expect(parse({ [field]: null })).toMatchObject({ ok: true, value: { ignored: [] } });
      if (cell === '-')
        expect(parse(asking(field), { strict: true })).toMatchObject({
          error: { code: 'invalid_request', param: field },
        });
    });

    it("leaves the edge's own fields to the edge, and nothing else", () => {
      const ours = of('edge').map(({ field }) => field);
      expect(ours.sort()).toEqual(Object.keys(EdgeFields.shape).sort());
      for (const field of ours)
        expect(parse({ [field]: true })).toMatchObject({
          error: { code: 'unsupported_parameter', param: field },
        });
    });
  },
);
