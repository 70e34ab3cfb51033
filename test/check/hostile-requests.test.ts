/** What the bench's hostile requests cost an origin before their grammars are compiled, counted. */
import { expect, it } from 'vitest';
import { hostileRequests, KEYWORDS } from '../../bench/hostile/requests.ts';
import { grammarOf, toolGrammarOf } from '../../gpu-origin/grammar/constraint-grammar.ts';
import { MAX_GRAMMAR_CHARACTERS, MAX_WORK, Work } from '../../gpu-origin/grammar/ebnf.ts';
import { parseChatCompletion } from '../../protocol/completion.ts';
import { MAX_BODY_BYTES } from '../../protocol/limits.ts';
import { constraintsOf, toolUseOf } from '../../protocol/request-fields.ts';

const COUNT = 50;
/** Of one step of work: it is counted before it is done, and may pass the limit by as much. */
const ONE_STEP = 20_000;

it('ends each of 50 hostile requests within its work, by its own field', () => {
  const requests = hostileRequests(COUNT, 1);
  expect(new Set(requests.map(({ keyword }) => keyword))).toEqual(new Set(KEYWORDS));
  expect(hostileRequests(COUNT, 1)).toEqual(requests);
  const outcomes = { refused: 0, made: 0, plain: 0 };
  for (const { keyword, attempt, body } of requests) {
    const name = `${keyword}, ${attempt}`;
    expect(JSON.stringify(body).length, name).toBeLessThan(MAX_BODY_BYTES);
    const work = new Work();
    const parsed = parseChatCompletion({ model: 'base', ...body });
    if (!parsed.ok) {
      expect(parsed.error, name).toHaveProperty('param');
      outcomes.refused += 1;
      continue;
    }
    const { request } = parsed.value;
    const use = toolUseOf(request);
    const [placed] = constraintsOf(request);
    const pathOf = (at: number): PropertyKey[] => ['tools', at, 'function'];
    const made =
      use !== null
        ? toolGrammarOf({ use, format: 'hermes', constraint: placed ?? null, pathOf }, work)
        : placed === undefined
          ? null
          : grammarOf(placed, work);
    expect(work.spent, name).toBeLessThanOrEqual(MAX_WORK + ONE_STEP);
    if (made === null) outcomes.plain += 1;
    else if (made.ok) {
      outcomes.made += 1;
      // Its names and the rules of JSON come on top.
      expect(made.value.length, name).toBeLessThanOrEqual(MAX_GRAMMAR_CHARACTERS * 1.05);
    } else {
      outcomes.refused += 1;
      expect(made.error, name).toHaveProperty('param');
    }
  }
  for (const count of Object.values(outcomes)) expect(count).toBeGreaterThan(0);
});
