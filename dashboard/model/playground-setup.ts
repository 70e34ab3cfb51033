/** The playground's settings, and the query of its address. Keys are not part of it. */
import type { ChatBody } from './call-code.ts';

/** As typed; empty = the edge's default. */
export interface Parameters {
  readonly temperature: string;
  readonly top_p: string;
  readonly max_tokens: string;
  readonly seed: string;
  /** Stop sequences, one per line. */
  readonly stop: string;
}

/** The prompt's settings, for all sides. */
export interface Asked {
  readonly system: string;
  readonly prompt: string;
  readonly parameters: Parameters;
}

export interface Setup extends Asked {
  /** Names, versions or bases to ask; null = a guess. */
  readonly left: string | null;
  readonly right: string | null;
}

/** Of the page that asks one name twice: in the browser and at the origin. */
export interface BrowserSetup extends Asked {
  /** A name or a base; null = a guess. */
  readonly name: string | null;
}

export const DEFAULT_PARAMETERS: Parameters = {
  ...{ temperature: '0', top_p: '', max_tokens: '256', seed: '', stop: '' },
};

const NOTHING_ASKED: Asked = { system: '', prompt: '', parameters: DEFAULT_PARAMETERS };
export const EMPTY_SETUP: Setup = { left: null, right: null, ...NOTHING_ASKED };
export const EMPTY_BROWSER_SETUP: BrowserSetup = { name: null, ...NOTHING_ASKED };

const PARAMETERS = Object.keys(DEFAULT_PARAMETERS) as (keyof Parameters)[];
/** Longer texts stay out of the address, which browsers and chats truncate somewhere above 2,000 characters. */
const MAX_IN_ADDRESS = 1_500;

/** @returns settings that differ from the defaults. */
export function setupQuery(setup: Setup | BrowserSetup): URLSearchParams {
  const { system, prompt, parameters, ...who } = setup;
  const query = new URLSearchParams();
  for (const [field, name] of Object.entries(who) as [string, string | null][])
    if (name !== null) query.set(field, name);
  for (const [field, text] of Object.entries({ system, prompt }))
    if (text !== '' && text.length <= MAX_IN_ADDRESS) query.set(field, text);
  for (const field of PARAMETERS)
    if (parameters[field] !== DEFAULT_PARAMETERS[field]) query.set(field, parameters[field]);
  return query;
}

/** @param query of an address. @returns `before`, overridden by the address. */
export function setupOf<S extends Setup | BrowserSetup>(query: string, before: S): S {
  const given = new URLSearchParams(query);
  const { system, prompt, parameters: parametersBefore, ...whoBefore } = before;
  const who = Object.entries(whoBefore).map(([field, name]) => [
    field,
    given.get(field) ?? (name as unknown),
  ]);
  const parameters = Object.fromEntries(
    PARAMETERS.map((field) => [field, given.get(field) ?? parametersBefore[field]]),
  ) as unknown as Parameters;
  return {
    ...(Object.fromEntries(who) as Omit<S, keyof Asked>),
    system: given.get('system') ?? system,
    prompt: given.get('prompt') ?? prompt,
    parameters,
  } as S;
}

export interface Exchange {
  readonly prompt: string;
  /** Empty = no message. */
  readonly answer: string;
}

/** @param before earlier turns, oldest first. @param prompt the next; empty = only the earlier turns. */
export function chatBody(
  model: string,
  { system, parameters }: Pick<Asked, 'system' | 'parameters'>,
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

/** A prompt, and each side's answer to it; null = none yet, or not asked. */
export interface TurnOf<Place extends string, Said> {
  readonly prompt: string;
  readonly answers: Readonly<Record<Place, Said | null>>;
}

/**
 * @param at the last turn at the time of the prompt. @returns the turns with this answer; null when the
 * conversation was restarted in the meantime.
 */
export function withAnswer<Place extends string, Said>(
  turns: readonly TurnOf<Place, Said>[],
  { at, place, answer }: { at: number; place: Place; answer: Said },
): TurnOf<Place, Said>[] | null {
  const last = turns.at(at);
  if (last === undefined) return null;
  return [...turns.slice(0, -1), { ...last, answers: { ...last.answers, [place]: answer } }];
}
