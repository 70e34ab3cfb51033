/** Answers that a real vLLM holds to a form, asked through an origin in front of it. */
import { Ajv2020 } from 'ajv/dist/2020.js';
import type OpenAI from 'openai';
import { inParallel } from '../check/edge-stack.ts';
import { ANSWER_SCHEMAS } from '../fixtures/answer-schemas.ts';

const MAX_TOKENS = 400;
/** Four at a time: with 16 schemas at once vLLM's compiler has the processors that its model needs. */
const AT_ONCE = 4;
const MODELS = ['base', 'medicine', 'dr-lee'];

const CITY = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const functionOf = (name: string) => ({
  type: 'function' as const,
  function: { name, description: `Tells the ${name} of a city.`, parameters: CITY },
});
const TOOLS = [functionOf('weather'), functionOf('population')];
/** What else answers are held to, and what they are then. */
const OTHERS: readonly (readonly [string, object, RegExp])[] = [
  ['json_object', { response_format: { type: 'json_object' } }, /^\s*\{[\s\S]*\}\s*$/],
  ['regex', { structured_outputs: { regex: '[A-Z]{3}-\\d{2}' } }, /^[A-Z]{3}-\d{2}$/],
  ['choice', { structured_outputs: { choice: ['größer', 'kleiner'] } }, /^(größer|kleiner)$/],
  [
    'grammar',
    { structured_outputs: { grammar: 'root ::= "ja, " [a-zäöü]{3,5} "."' } },
    /^ja, [a-zäöü]{3,5}\.$/,
  ],
];

/** @param problems gets what an answer should not have been. */
export async function checkForms(client: OpenAI, problems: string[]): Promise<void> {
  const ask = async (model: string, content: string, more: object) => {
    const { choices } = await client.chat.completions.create({
      ...{ model, temperature: 0, max_tokens: MAX_TOKENS, messages: [{ role: 'user', content }] },
      ...more,
    });
    return choices[0]!;
  };
  const failed = (what: string, seen: unknown): void => {
    problems.push(`${what}: ${seen instanceof Error ? seen.message : JSON.stringify(seen).slice(0, 300)}`);
  };
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  const schemas = Object.entries(ANSWER_SCHEMAS).map(([name, schema], at) => ({
    ...{ name, schema, model: MODELS[at % MODELS.length]! },
  }));
  const valid = await inParallel(schemas, AT_ONCE, async ({ name, schema, model }) => {
    const json_schema = { name, strict: true, schema };
    const format = { response_format: { type: 'json_schema', json_schema } };
    try {
      const choice = await ask(model, 'Tell me about Ada Lovelace.', format);
      const is =
        choice.finish_reason === 'stop' && ajv.validate(schema, JSON.parse(choice.message.content ?? ''));
      if (!is) failed(`schema ${name}`, choice);
      return is;
    } catch (error) {
      failed(`schema ${name}`, error);
      return false;
    }
  });
  console.log(`${valid.filter(Boolean).length} of ${valid.length} answers are valid by their schema`);
  for (const [what, more, form] of OTHERS) {
    const choice = await ask('medicine', 'What is larger, Köln or Bonn?', more);
    const is = form.test(choice.message.content ?? '');
    console.log(`${what}: ${JSON.stringify(choice.message.content)}`);
    if (!is) failed(what, choice);
  }
  const content = 'What is the weather in Paris?';
  for (const choice of ['required', { type: 'function', function: { name: 'population' } }]) {
    const answer = await ask('base', content, {
      tools: TOOLS,
      tool_choice: choice,
      parallel_tool_calls: false,
    });
    const [call] = answer.message.tool_calls ?? [];
    const called = call?.type === 'function' ? call.function : undefined;
    console.log(`tool_choice ${JSON.stringify(choice)}: ${JSON.stringify(called)}`);
    const city = called === undefined ? undefined : (JSON.parse(called.arguments) as { city?: string }).city;
    const isWanted = choice === 'required' || called?.name === 'population';
    if (answer.finish_reason !== 'tool_calls' || city === undefined || !isWanted) failed('tools', answer);
  }
  const auto = await ask('base', content, { tools: TOOLS, max_tokens: 60 });
  console.log(`tool_choice "auto": ${JSON.stringify(auto.message.tool_calls ?? auto.message.content)}`);
}
