import { Tokenizer as Library } from '@huggingface/tokenizers';
import { BytePairModel } from './byte-pair-model.ts';
import { originalSteps } from './pre-tokenizer-steps.ts';
import { TokenizerError, type TokenizerJson } from './tokenizer-definition.ts';

/** Where a piece begins: at the text's start, at that of a section (behind a control token), or inside of one. */
export type Place = 'text' | 'section' | 'inside';

export type EncodePiece = (piece: string, place: Place) => readonly number[];

/**
 * The encoder of plain text: normalizer, pre-tokenizer and added tokens are the library's, the merges ours.
 * @param control texts that no text may yield as a token: they are not in its vocabulary.
 * @throws TokenizerError
 */
export function plainEncoder(json: TokenizerJson, control: ReadonlyMap<string, number>): EncodePiece {
  const added = json.added_tokens.filter(({ content }) => !control.has(content));
  const vocabulary = new Map(Object.entries(json.model.vocab).filter(([text]) => !control.has(text)));
  for (const { content, id } of added) vocabulary.set(content, id);
  const model = new BytePairModel(json.model, vocabulary);
  const build = (steps: Steps): ((piece: string) => readonly number[]) => {
    const library = buildLibrary({
      normalizer: steps.normalizer,
      pre_tokenizer: originalSteps(steps.pre_tokenizer),
      decoder: json.decoder,
      added_tokens: added,
      post_processor: null,
      model: { type: 'BPE', vocab: {}, merges: [] },
    });
    library.model = model;
    return (piece) => library.encode(piece, { add_special_tokens: false }).ids;
  };
  const steps = { normalizer: json.normalizer, pre_tokenizer: json.pre_tokenizer };
  const built = new Map<string, ReturnType<typeof build>>();
  const encoderAt = (place: Place) => {
    const there = stepsAt(place, steps) as Steps;
    const key = JSON.stringify(there);
    const encoder = built.get(key) ?? build(there);
    built.set(key, encoder);
    return encoder;
  };
  const encoders = { text: encoderAt('text'), section: encoderAt('section'), inside: encoderAt('inside') };
  return (piece, place) => encoders[place](piece);
}

type Steps = Pick<TokenizerJson, 'normalizer' | 'pre_tokenizer'>;

function buildLibrary(json: object): Library {
  try {
    return new Library(json, { clean_up_tokenization_spaces: false });
  } catch (error) {
    throw new TokenizerError(`the tokenizer cannot be built: ${(error as Error).message}`);
  }
}

/** Steps that are there for a section's beginning and have no business inside of one. */
const BEGINNINGS = new Set(['Prepend', 'Strip']);

/**
 * The same steps without what is done elsewhere only: SentencePiece writes a space at each section's beginning, or,
 * with `"prepend_scheme": "first"`, at the whole text's only (`pre_tokenizers/metaspace.rs`: offset 0 of the original).
 */
function stepsAt(place: Place, step: unknown): unknown {
  if (place === 'text' || typeof step !== 'object' || step === null) return step;
  const inside = place === 'inside';
  if (Array.isArray(step))
    return step.filter((one) => !inside || !isBeginning(one)).map((one) => stepsAt(place, one));
  if (inside && isBeginning(step)) return null;
  return Object.fromEntries(
    Object.entries(step).map(([key, value]) => {
      if (inside && key === 'add_prefix_space') return [key, false];
      if (key === 'prepend_scheme' && (inside || value === 'first')) return [key, 'never'];
      return [key, stepsAt(place, value)];
    }),
  );
}

const isBeginning = (step: unknown): boolean =>
  typeof step === 'object' && step !== null && BEGINNINGS.has((step as { type?: string }).type ?? '');

/** Unicode's forms and small letters: 4 bytes become 1 at most, as in U+1D400 to "A". */
const SHORTENING = 4;
const LOSSLESS = new Set(['Sequence', 'ByteLevel', 'Split', 'Digits', 'Metaspace', 'Punctuation', 'Prepend']);
const FORMS = new Set(['NFC', 'NFD', 'NFKC', 'NFKD', 'Lowercase']);

/**
 * Bytes of a text for each byte of its tokens, at most; Infinity when characters can be dropped before there are
 * tokens, or when one token stands for any number of unknown ones.
 */
export function mostShortening(json: TokenizerJson): number {
  const byteLevel = JSON.stringify(json.decoder).includes('"ByteLevel"');
  if (!byteLevel && json.model['byte_fallback'] !== true) return Infinity;
  if (json.added_tokens.some((token) => token.special !== true && (token.lstrip || token.rstrip)))
    return Infinity;
  const steps = [...stepsOf(json.normalizer), ...stepsOf(json.pre_tokenizer)];
  const forms = steps.filter(({ type }) => FORMS.has(String(type))).length;
  return steps.every(keepsAll) ? SHORTENING ** Math.min(1, forms) : Infinity;
}

const stepsOf = (step: unknown): Record<string, unknown>[] =>
  Array.isArray(step)
    ? step.flatMap(stepsOf)
    : typeof step !== 'object' || step === null
      ? []
      : [
          step as Record<string, unknown>,
          ...['normalizers', 'pretokenizers'].flatMap((key) =>
            stepsOf((step as Record<string, unknown>)[key]),
          ),
        ];

function keepsAll(step: Record<string, unknown>): boolean {
  const type = String(step['type']);
  if (type === 'Replace')
    return JSON.stringify(step['pattern']) === '{"String":" "}' && step['content'] !== '';
  if (type === 'Split')
    return String(step['behavior']).toLowerCase() !== 'removed' && step['invert'] !== true;
  return LOSSLESS.has(type) || FORMS.has(type);
}
