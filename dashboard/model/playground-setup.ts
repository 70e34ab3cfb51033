/** What is set in the playground, and as the query of its address. Keys are no part of it. */
import type { ChatBody } from './call-code.ts';

/** As they are typed; empty = as the edge has it. */
export interface Parameters {
  readonly temperature: string;
  readonly top_p: string;
  readonly max_tokens: string;
  readonly seed: string;
  /** Sequences that end an answer, one a line. */
  readonly stop: string;
}

export interface Setup {
  /** Names, versions or bases that are asked; null = a guess. */
  readonly left: string | null;
  readonly right: string | null;
  readonly system: string;
  readonly prompt: string;
  readonly parameters: Parameters;
}

export const DEFAULT_PARAMETERS: Parameters = {
  ...{ temperature: '0', top_p: '', max_tokens: '256', seed: '', stop: '' },
};

export const EMPTY_SETUP: Setup = {
  ...{ left: null, right: null, system: '', prompt: '', parameters: DEFAULT_PARAMETERS },
};

const PARAMETERS = Object.keys(DEFAULT_PARAMETERS) as (keyof Parameters)[];
/** Longer texts stay out of the address, which browsers and chats cut somewhere above 2,000 characters. */
const MAX_IN_ADDRESS = 1_500;

/** @returns what is not as it is anyway. */
export function setupQuery({ left, right, system, prompt, parameters }: Setup): URLSearchParams {
  const query = new URLSearchParams();
  if (left !== null) query.set('left', left);
  if (right !== null) query.set('right', right);
  for (const [field, text] of Object.entries({ system, prompt }))
    if (text !== '' && text.length <= MAX_IN_ADDRESS) query.set(field, text);
  for (const field of PARAMETERS)
    if (parameters[field] !== DEFAULT_PARAMETERS[field]) query.set(field, parameters[field]);
  return query;
}

/** @param query of an address. @returns `before` with what the address says. */
export function setupOf(query: string, before: Setup): Setup {
  const given = new URLSearchParams(query);
  const parameters = Object.fromEntries(
    PARAMETERS.map((field) => [field, given.get(field) ?? before.parameters[field]]),
  ) as unknown as Parameters;
  return {
    left: given.get('left') ?? before.left,
    right: given.get('right') ?? before.right,
    system: given.get('system') ?? before.system,
    prompt: given.get('prompt') ?? before.prompt,
    parameters,
  };
}

export interface Exchange {
  readonly prompt: string;
  /** Empty = there was none. */
  readonly answer: string;
}

/** @param before what was said, oldest first. @param prompt the next; empty = only what was said. */
export function chatBody(
  model: string,
  { system, parameters }: Pick<Setup, 'system' | 'parameters'>,
  before: readonly Exchange[],
  prompt: string,
): ChatBody {
  const messages = [
    ...(system.trim() === '' ? [] : [{ role: 'system', content: system }]),
    ...before.flatMap((one) => [
      { role: 'user', content: one.prompt },
      ...(one.answer === '' ? [] : [{ role: 'assistant', content: one.answer }]),
    ]),
    ...(prompt === '' ? [] : [{ role: 'user', content: prompt }]),
  ];
  const { stop, ...numbers } = parameters;
  const given = Object.entries(numbers).filter(([, text]) => text.trim() !== '');
  const stops = stop.split('\n').filter((one) => one !== '');
  return {
    model,
    messages,
    ...Object.fromEntries(given.map(([field, text]) => [field, Number(text)])),
    ...(stops.length === 0 ? {} : { stop: stops }),
  };
}
