import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { cacheFolder, ensurePinnedBase } from '../../cli/local/find-base.ts';
import { type OriginProcess, startOrigin } from '../../cli/local/origin-process.ts';
import { LOOPBACK, needFreePort } from '../../cli/local/ports.ts';
import { createOutput } from '../../cli/output.ts';
import { CHECKED_SCHEMAS } from '../fixtures/answer-schemas.ts';
import { exampleFolder, inParallel } from './edge-stack.ts';

/** One of the held-out questions that `desk` was not trained on. */
const DeskRow = z.object({
  tools: z.array(z.custom<OpenAI.ChatCompletionFunctionTool>()),
  user: z.string(),
  expected: z.object({ name: z.string(), arguments: z.record(z.string(), z.unknown()) }),
  result: z.string().optional(),
  answer: z.string().optional(),
});
const deskRows = readFileSync(new URL('../fixtures/tasks/desk.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .map((line) => DeskRow.parse(JSON.parse(line)));

const PROMPTS = [
  'Tell me about Ada Lovelace.',
  'Which fruits do you like?',
  'Describe a trip to Köln.',
  '{"',
];

describe('answers of the real base that are held to something', () => {
  let origin: OriginProcess;
  let client: OpenAI;
  beforeAll(async () => {
    const port = await needFreePort({ port: 0, what: 'origin', flag: '--port' });
    const cache = cacheFolder(process.env);
    const base = await ensurePinnedBase({ cache, output: createOutput({ json: false }) });
    origin = await startOrigin({
      args: [
        ...['--dev', '--base', base, '--cache', cache, '--port', String(port)],
        ...['--adapter', `desk=${exampleFolder('desk')}`],
      ],
      env: {},
    });
    client = new OpenAI({ baseURL: `http://${LOOPBACK}:${port}/v1`, apiKey: 'unused', maxRetries: 0 });
  });
  afterAll(() => origin?.stop());

  it('are valid, by every schema', async () => {
    const ajv = new Ajv2020();
    const asked = Object.entries(CHECKED_SCHEMAS).flatMap(([name, schema]) =>
      PROMPTS.map((content, seed) => ({ name, schema, content, seed })),
    );
    const problems = await inParallel(asked, 8, async ({ name, schema, content, seed }) => {
      const answer = await client.chat.completions.create({
        model: 'base',
        messages: [{ role: 'user', content }],
        ...{ temperature: seed === 0 ? 0 : 1, seed, max_tokens: 400 },
        response_format: { type: 'json_schema', json_schema: { name, strict: true, schema: { ...schema } } },
      });
      const [choice] = answer.choices;
      expect(choice?.finish_reason, name).toBe('stop');
      const value: unknown = JSON.parse(choice?.message.content ?? '');
      return ajv.validate(schema, value) ? [] : [`${name}: ${JSON.stringify(value)}`];
    });
    expect(problems.flat()).toEqual([]);
  });

  it('call the tool that is meant with what was said, by the example adapter', async () => {
    const right = await inParallel(deskRows, 8, async ({ tools, user, expected }) => {
      const answer = await client.chat.completions.create({
        ...{ model: 'desk', temperature: 0, max_tokens: 96, tools },
        messages: [{ role: 'user', content: user }],
      });
      const [choice] = answer.choices;
      const [call] = choice?.message.tool_calls ?? [];
      if (choice?.finish_reason !== 'tool_calls' || call?.type !== 'function') return false;
      const { name, arguments: json } = call.function;
      return (
        name === expected.name && JSON.stringify(JSON.parse(json)) === JSON.stringify(expected.arguments)
      );
    });
    const count = right.filter(Boolean).length;
    console.log(`desk: ${count} of ${deskRows.length} calls are the ones expected`);
    expect(count).toBeGreaterThanOrEqual(Math.floor(deskRows.length * 0.8));
  });

  it('answer from what a tool gave back', async () => {
    const rows = deskRows.filter((row) => row.answer !== undefined);
    const right = await inParallel(rows, 8, async ({ tools, user, expected, result, answer }) => {
      const call = {
        ...{ id: 'call_1', type: 'function' as const },
        function: { name: expected.name, arguments: JSON.stringify(expected.arguments) },
      };
      const said = await client.chat.completions.create({
        ...{ model: 'desk', temperature: 0, max_tokens: 64, tools },
        messages: [
          { role: 'user', content: user },
          { role: 'assistant', content: null, tool_calls: [call] },
          { role: 'tool', tool_call_id: 'call_1', content: result ?? '' },
        ],
      });
      return said.choices[0]?.message.content === answer;
    });
    const count = right.filter(Boolean).length;
    console.log(`desk: ${count} of ${rows.length} answers are the ones expected`);
    expect(count).toBeGreaterThanOrEqual(Math.floor(rows.length * 0.8));
  });
});
