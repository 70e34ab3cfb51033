/**
 * Renders the base's chat template and encodes the result so that what users write never becomes a control token:
 * special strings in their contents are replaced by private-use characters before the template runs, the rendered
 * text is cut at the special strings that are left (the template's own, emitted by id), and each stretch between is
 * encoded by a tokenizer that has no special tokens, with the placeholders put back as plain text.
 * Contents are not encoded apart from the template's text: "\n" + "\n\nHi" are other tokens than "\n\n\nHi".
 */
import { Template } from '@huggingface/jinja';
import type { Tokenizer } from './tokenizer.ts';
import { specialSplitter } from './tokenizer.ts';

export interface TemplateMessage {
  role: string;
  content: string;
}

/** The template refuses these messages (its own `raise_exception`, or roles that it does not know). */
export class ChatTemplateError extends Error {
  override readonly name = 'ChatTemplateError';
}

export interface ChatTemplate {
  /**
   * Token ids of the conversation, with the opening of the assistant's next turn.
   * @param limit as in `Tokenizer.encode`.
   * @throws ChatTemplateError
   */
  encode(messages: readonly TemplateMessage[], limit?: number): number[];
}

/** Begins a placeholder; the character after it says which text it stands for. */
const ESCAPE = '\u{E000}';
/** Plane 15: 65,536 private characters, more than there are distinct texts to stand for. */
const FIRST_INDEX = 0xf0000;

/** @returns null when the base has no chat template. @throws ChatTemplateError when it does not parse. */
export function createChatTemplate(tokenizer: Tokenizer): ChatTemplate | null {
  const source = tokenizer.chatTemplate;
  if (source === null) return null;
  const template = parse(source);
  const specials = [...tokenizer.specialTokens.keys()];
  const split = specialSplitter(specials);
  const splitContent = specialSplitter([...specials, ESCAPE]);
  const textOf = (id: number | null | undefined): string => {
    const entry = [...tokenizer.specialTokens].find(([, special]) => special === id);
    return entry?.[0] ?? '';
  };
  const context = { bos_token: textOf(tokenizer.bosId), eos_token: textOf(tokenizer.eosIds[0]) };

  return {
    encode(messages, limit = Infinity) {
      const placeholders = new Placeholders();
      const guarded = messages.map(({ role, content }) => ({
        role,
        content: guardEnds(splitContent(content), specials, placeholders),
      }));
      let rendered: string;
      try {
        rendered = template.render({ ...context, messages: guarded, add_generation_prompt: true });
      } catch (error) {
        throw new ChatTemplateError(placeholders.restore((error as Error).message));
      }
      const ids: number[] = [];
      for (const piece of split(rendered)) {
        const id = tokenizer.specialTokens.get(piece);
        if (id !== undefined) ids.push(id);
        else {
          const options = { allowSpecial: false, limit: limit - ids.length };
          for (const plain of tokenizer.encode(placeholders.restore(piece), options)) ids.push(plain);
        }
        if (ids.length > limit) break;
      }
      return ids;
    },
  };
}

function parse(source: string): Template {
  if (source.includes(ESCAPE))
    throw new ChatTemplateError('the chat template contains U+E000, which is reserved');
  try {
    return new Template(source);
  } catch (error) {
    throw new ChatTemplateError(`the chat template does not parse: ${(error as Error).message}`);
  }
}

class Placeholders {
  private readonly texts: string[] = [];
  private readonly indexes = new Map<string, number>();

  of(text: string): string {
    let index = this.indexes.get(text);
    if (index === undefined) {
      index = this.texts.push(text) - 1;
      this.indexes.set(text, index);
    }
    return ESCAPE + String.fromCodePoint(FIRST_INDEX + index);
  }

  restore(text: string): string {
    return text.replace(/\u{E000}([\u{F0000}-\u{FFFFF}])/gu, (whole, character: string) => {
      return this.texts[(character.codePointAt(0) ?? 0) - FIRST_INDEX] ?? whole;
    });
  }
}

/**
 * Guards whole special strings, and also a beginning of one at the content's end and an end of one at its beginning:
 * the template's text, or the next message's, might complete it.
 */
function guardEnds(
  pieces: readonly string[],
  specials: readonly string[],
  placeholders: Placeholders,
): string {
  const guarded = pieces.map((piece) =>
    piece === ESCAPE || specials.includes(piece) ? placeholders.of(piece) : piece,
  );
  const first = guarded[0];
  if (first === undefined) return '';
  if (first === pieces[0]) {
    const body = first.trimStart();
    const overlap = longest(specials, (special, n) => body.startsWith(special.slice(-n)));
    if (overlap > 0)
      guarded[0] =
        first.slice(0, first.length - body.length) +
        placeholders.of(body.slice(0, overlap)) +
        body.slice(overlap);
  }
  const at = guarded.length - 1;
  const last = guarded[at] ?? '';
  if (last === pieces[at]) {
    const body = last.trimEnd();
    const overlap = longest(specials, (special, n) => body.endsWith(special.slice(0, n)));
    if (overlap > 0)
      guarded[at] =
        body.slice(0, body.length - overlap) +
        placeholders.of(body.slice(-overlap)) +
        last.slice(body.length);
  }
  return guarded.join('');
}

function longest(specials: readonly string[], matches: (special: string, n: number) => boolean): number {
  let best = 0;
  for (const special of specials)
    for (let n = special.length - 1; n > best; n--) if (matches(special, n)) best = n;
  return best;
}
