/**
 * Steps of a pre-tokenizer whose characters the JavaScript library classes otherwise than Hugging Face's `tokenizers`,
 * with which models were trained, written as splits at the regexes of the original: JavaScript's `\d` knows ASCII only,
 * and its `\s` has U+FEFF and lacks U+0085. Regexes of `Split` itself the library translates.
 */
interface Step {
  type?: string;
  pretokenizers?: unknown[];
  individual_digits?: boolean;
  add_prefix_space?: boolean;
  use_regex?: boolean;
  prepend_scheme?: string;
  replacement?: string;
  split?: boolean;
}

/** `pre_tokenizers/byte_level.rs`: GPT-2's words. */
const GPT2_WORDS = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

const splitAt = (regex: string) => ({
  type: 'Split',
  pattern: { Regex: regex },
  behavior: 'Isolated',
  invert: false,
});

/** @param step a `pre_tokenizer` of `tokenizer.json`. @returns one that splits in the library as it does in the original. */
export function originalSteps(step: unknown): unknown {
  if (typeof step !== 'object' || step === null) return step;
  const { type, individual_digits, add_prefix_space, use_regex } = step as Step;
  if (type === 'Sequence')
    return { type, pretokenizers: ((step as Step).pretokenizers ?? []).map(originalSteps) };
  if (type === 'Metaspace') return metaspace(step);
  // `pre_tokenizers/digits.rs`: `char::is_numeric`, which is Unicode's Nd, Nl and No.
  if (type === 'Digits') return splitAt(individual_digits === true ? String.raw`\p{N}` : String.raw`\p{N}+`);
  if (type !== 'ByteLevel' || use_regex === false) return step;
  const prefix = { type: 'Replace', pattern: { Regex: String.raw`\A(?! )` }, content: ' ' };
  return {
    type: 'Sequence',
    pretokenizers: [
      ...(add_prefix_space === true ? [prefix] : []),
      splitAt(GPT2_WORDS),
      { ...step, add_prefix_space: false, use_regex: false },
    ],
  };
}

/** `pre_tokenizers/metaspace.rs`: also cuts before each space, unless told not to; the library never does. */
function metaspace(step: Step): unknown {
  const { add_prefix_space, replacement = '▁', prepend_scheme = 'always' } = step;
  const written = { ...step, prepend_scheme: add_prefix_space === false ? 'never' : prepend_scheme };
  if (step.split === false) return written;
  const space = [...replacement]
    .map((character) => `\\x{${character.codePointAt(0)!.toString(16)}}`)
    .join('');
  return { type: 'Sequence', pretokenizers: [written, splitAt(`(?:${space})?[^${space}]+|${space}`)] };
}
