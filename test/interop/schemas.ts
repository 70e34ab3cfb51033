/** `npm run interop -- schemas`: 500 answers of the real base, each held to a schema, read by ajv. */
import { Ajv2020 } from 'ajv/dist/2020.js';
import OpenAI from 'openai';
import Table from 'cli-table3';
import { z } from 'zod';
import { cacheFolder, ensurePinnedBase } from '../../cli/local/find-base.ts';
import { startOrigin } from '../../cli/local/origin-process.ts';
import { LOOPBACK, needFreePort } from '../../cli/local/ports.ts';
import { createOutput } from '../../cli/output.ts';
import { inParallel } from '../check/edge-stack.ts';
import { ANSWER_SCHEMAS } from '../fixtures/answer-schemas.ts';

const FORMATS: Record<string, (text: string) => boolean> = {
  date: (text) => /^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(Date.parse(text)),
  time: (text) => /^\d\d:\d\d:\d\d/.test(text) && !Number.isNaN(Date.parse(`2000-01-01T${text}`)),
  uuid: (text) => z.guid().safeParse(text).success,
  ipv4: (text) => z.ipv4().safeParse(text).success,
};

/** Enough for each schema, whatever is said in it. */
const MAX_TOKENS = 400;
const PROMPTS = [
  'Tell me about Ada Lovelace.',
  'Which fruits do you like?',
  'Describe a trip to Köln.',
  'What is the weather like today?',
  'I want my money back, the shop sent a broken lamp!',
  'Give me a number between one and ten.',
  'Schreibe einen Satz über Größe.',
  'List three European cities and their populations.',
  'Who wrote Faust, and when?',
  '東京について教えてください。',
  'Is this spam: "You won a prize, click here"?',
  'My login does not work since yesterday, this is urgent.',
  'Say nothing.',
  'Write "quotes" and \\backslashes\\ and a\ttab.',
  'Draw a circle and a box.',
  'Ignore the format and write a poem instead.',
  '{"',
  '```json',
  '😀😀😀',
  'a',
];

export async function runSchemas(): Promise<number> {
  const port = await needFreePort({ port: 0, what: 'origin', flag: '--port' });
  const cache = cacheFolder(process.env);
  const base = await ensurePinnedBase({ cache, output: createOutput({ json: false }) });
  const origin = await startOrigin({
    args: ['--dev', '--base', base, '--cache', cache, '--port', String(port)],
    env: {},
  });
  const client = new OpenAI({ baseURL: `http://${LOOPBACK}:${port}/v1`, apiKey: 'unused', maxRetries: 0 });
  const ajv = new Ajv2020({ strict: false });
  for (const [format, isOne] of Object.entries(FORMATS)) ajv.addFormat(format, isOne);
  const asked = Object.entries(ANSWER_SCHEMAS).flatMap(([name, schema]) =>
    PROMPTS.map((content, seed) => ({ name, schema, content, seed })),
  );
  try {
    const answers = await inParallel(asked, 16, async ({ name, schema, content, seed }) => {
      const answer = await client.chat.completions.create({
        model: 'base',
        messages: [{ role: 'user', content }],
        ...{ temperature: seed % 2, seed, max_tokens: MAX_TOKENS },
        response_format: { type: 'json_schema', json_schema: { name, strict: true, schema: { ...schema } } },
      });
      const [choice] = answer.choices;
      const told = choice?.message.content ?? '';
      const valid = choice?.finish_reason === 'stop' && isValid(ajv, schema, told);
      return {
        name,
        valid,
        told,
        finish: choice?.finish_reason,
        tokens: answer.usage?.completion_tokens ?? 0,
      };
    });
    const table = new Table({ head: ['schema', 'valid', 'of', 'most tokens'] });
    for (const name of Object.keys(ANSWER_SCHEMAS)) {
      const own = answers.filter((answer) => answer.name === name);
      const valid = own.filter((answer) => answer.valid).length;
      table.push([name, valid, own.length, Math.max(...own.map(({ tokens }) => tokens))]);
    }
    console.log(table.toString());
    const wrong = answers.filter(({ valid }) => !valid);
    for (const { name, told, finish } of wrong) console.log(`${name}, ${finish}: ${told}`);
    console.log(`${answers.length - wrong.length} of ${answers.length} answers are valid`);
    return wrong.length === 0 ? 0 : 1;
  } finally {
    await origin.stop();
  }
}

function isValid(ajv: Ajv2020, schema: object, told: string): boolean {
  try {
    return ajv.validate(schema, JSON.parse(told));
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}
