/**
 * Renders the base's chat template and encodes the result so that what users write never becomes a control token:
 * control strings in their contents are replaced by private-use characters before the template runs, the rendered
 * text is cut at the control strings that are left (the template's own, emitted by id), and each stretch between is
 * encoded by a tokenizer that has no control tokens, with the placeholders put back as plain text.
 * Contents are not encoded apart from the template's text: "\n" + "\n\nHi" are other tokens than "\n\n\nHi".
 */
import { Template } from '@huggingface/jinja';
import {
  asTemplateMessage,
  type TemplateMessage,
  type TemplateTool,
  type ToolFormat,
  toolsOfTemplate,
  withoutTools,
} from './chat-template-tools.ts';
import { ContentGuard, ESCAPE, hideLookups, type Placeholders } from './chat-template-guard.ts';
import { usePython } from './chat-template-python.ts';
import { renderInSteps } from './chat-template-render.ts';
import type { Tokenizer } from './tokenizer.ts';
import { finish, Splitter, STEP_CHARACTERS, type Steps } from './text-steps.ts';

export type { TemplateMessage } from './chat-template-tools.ts';

export interface TemplateOptions {
  /** Variables of the template: values of JSON. */
  variables?: Readonly<Record<string, unknown>>;
  /** Whether the assistant's next turn is opened; true unless given. */
  opensTurn?: boolean;
  /** The text ends where the last message's content ends. */
  continuesLast?: boolean;
  /** Functions that may be called. */
  tools?: readonly TemplateTool[];
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
  encodeInSteps(
    messages: readonly TemplateMessage[],
    limit: number,
    options?: TemplateOptions,
  ): Steps<number[] | null>;
  /** How calls are written. */
  readonly toolFormat: ToolFormat;
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

  const knows = toolsOfTemplate(source);

  function* render(variables: Record<string, unknown>, placeholders: Placeholders): Steps<string> {
    try {
      return yield* renderInSteps(template, { ...variables, ...context });
    } catch (error) {
      throw new ChatTemplateError(placeholders.restore((error as Error).message));
    }
  }

  /** Every text in a value of JSON, names of fields too. */
  function* guardAll(value: unknown, placeholders: Placeholders): Steps<unknown> {
    if (typeof value === 'string') return yield* guard.guard(value, placeholders);
    if (Array.isArray(value)) {
      const items: unknown[] = [];
      for (const item of value) items.push(yield* guardAll(item, placeholders));
      return items;
    }
    if (typeof value !== 'object' || value === null) return value;
    const fields: [string, unknown][] = [];
    for (const [key, field] of Object.entries(value))
      fields.push([yield* guard.guard(key, placeholders), yield* guardAll(field, placeholders)]);
    return Object.fromEntries(fields);
  }

  function* encodeInSteps(
    conversation: readonly TemplateMessage[],
    limit: number,
    { variables = {}, opensTurn = true, continuesLast = false, tools = [] }: TemplateOptions = {},
  ): Steps<number[] | null> {
    const placeholders = guard.placeholders();
    const guarded: { role: string; content: string }[] = [];
    let unpaid = 0;
    const messages = knows.native ? conversation : withoutTools(conversation, tools);
    for (const message of messages) {
      const { role, content } = message;
      const written = yield* guardAll(asTemplateMessage(message), placeholders);
      guarded.push({ ...(written as { content: string }), role });
      unpaid += MESSAGE_WORK + content.length;
      if (unpaid < STEP_CHARACTERS) continue;
      yield;
      unpaid = 0;
    }
    // Stands for no text at all, and for nothing that a user can write.
    const end = placeholders.of('');
    const last = guarded.at(-1);
    if (continuesLast && last !== undefined)
      guarded[guarded.length - 1] = { ...last, content: last.content + end };
    const whole = yield* render(
      {
        ...((yield* guardAll(variables, placeholders)) as Record<string, unknown>),
        messages: guarded,
        // As transformers has it: templates ask whether they are none, not only whether they are defined.
        tools: knows.native && tools.length > 0 ? yield* guardAll(tools, placeholders) : null,
        documents: null,
        add_generation_prompt: opensTurn && !continuesLast,
      },
      placeholders,
    );
    const cut = continuesLast ? whole.lastIndexOf(end) : whole.length;
    if (cut === -1) throw new ChatTemplateError('it does not show the last message, which is to go on');
    const rendered = whole.slice(0, cut);
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
    toolFormat: knows.format,
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
