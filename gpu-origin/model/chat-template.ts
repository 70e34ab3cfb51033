/**
 * Renders the base's chat template and encodes the result so that what users write never becomes a control token:
 * control strings in their contents are replaced by private-use characters before the template runs, the rendered
 * text is cut at the control strings that are left (the template's own, emitted by id), and each stretch between is
 * encoded by a tokenizer that has no control tokens, with the placeholders put back as plain text.
 * Contents are not encoded apart from the template's text: "\n" + "\n\nHi" are other tokens than "\n\n\nHi".
 */
import { Template } from '@huggingface/jinja';
import { ContentGuard, ESCAPE, type Placeholders } from './chat-template-guard.ts';
import { hideLookups } from './chat-template-lookups.ts';
import { usePython } from './chat-template-python.ts';
import { renderInSteps } from './chat-template-render.ts';
import type { Tokenizer } from './tokenizer.ts';
import { Splitter } from './tokenizer-splitter.ts';
import { finish, STEP_CHARACTERS, type Steps } from './tokenizer-steps.ts';

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
   * Token ids of the conversation, with the opening of the assistant's next turn. All at once: for conversations that
   * are known to be short.
   * @throws ChatTemplateError
   */
  encode(messages: readonly TemplateMessage[]): number[];
  /** The same in steps, with `limit` as in `Tokenizer.encodeInSteps`. */
  encodeInSteps(messages: readonly TemplateMessage[], limit: number): Steps<number[] | null>;
}

/** @returns null when the base has no chat template. @throws ChatTemplateError when it does not parse. */
export function createChatTemplate(tokenizer: Tokenizer): ChatTemplate | null {
  const source = tokenizer.chatTemplate;
  if (source === null) return null;
  const template = parse(source);
  const control = [...tokenizer.controlTokens.keys()];
  const splitter = new Splitter(control);
  const guard = new ContentGuard(control);
  usePython(template.parsed);
  hideLookups(template.parsed, (text) =>
    finish(splitter.split(text))
      .map((piece) => (tokenizer.controlTokens.has(piece) ? guard.placeholderOf(piece) : piece))
      .join(''),
  );
  const textOf = (id: number | null | undefined): string => {
    const entry = [...tokenizer.controlTokens].find(([, token]) => token === id);
    return entry?.[0] ?? '';
  };
  const context = { bos_token: textOf(tokenizer.bosId), eos_token: textOf(tokenizer.eosIds[0]) };

  function* render(messages: readonly TemplateMessage[], placeholders: Placeholders): Steps<string> {
    try {
      return yield* renderInSteps(template, { ...context, messages, add_generation_prompt: true });
    } catch (error) {
      throw new ChatTemplateError(placeholders.restore((error as Error).message));
    }
  }

  function* encodeInSteps(messages: readonly TemplateMessage[], limit: number): Steps<number[] | null> {
    const placeholders = guard.placeholders();
    const guarded: TemplateMessage[] = [];
    let unpaid = 0;
    for (const { role, content } of messages) {
      guarded.push({ role, content: yield* guard.guard(content, placeholders) });
      unpaid += MESSAGE_WORK + content.length;
      if (unpaid < STEP_CHARACTERS) continue;
      yield;
      unpaid = 0;
    }
    const rendered = yield* render(guarded, placeholders);
    yield;
    const pieces = yield* splitter.split(rendered);
    const restored: (string | number)[] = [];
    unpaid = 0;
    for (const piece of pieces) {
      restored.push(tokenizer.controlTokens.get(piece) ?? (yield* placeholders.restoreInSteps(piece)));
      unpaid += piece.length;
      if (unpaid < STEP_CHARACTERS) continue;
      yield;
      unpaid = 0;
    }
    return yield* tokenizer.encodePieces(restored, limit);
  }

  return {
    encode: (messages) => finish(encodeInSteps(messages, Infinity)) ?? [],
    encodeInSteps,
  };
}

/** What guarding a message costs beside its characters, in characters. */
const MESSAGE_WORK = 64;

function parse(source: string): Template {
  if (source.includes(ESCAPE))
    throw new ChatTemplateError('the chat template contains U+E000, which is reserved');
  try {
    return new Template(source);
  } catch (error) {
    throw new ChatTemplateError(`the chat template does not parse: ${(error as Error).message}`);
  }
}
