/** The items of a response as they grow, and the events that tell of it. */
import type {
  OutputFunctionCall,
  OutputItem,
  OutputMessage,
  OutputText,
  ResponseEvent,
  TokenLogprob,
} from '../../protocol/index.ts';
import type { AnswerPiece } from './answer-form.ts';

/** `Omit` that keeps the members of a union apart. */
type WithoutNumber<T> = T extends unknown ? Omit<T, 'sequence_number'> : never;
export type UnnumberedEvent = WithoutNumber<ResponseEvent>;

type Status = 'in_progress' | 'completed' | 'incomplete';

export class ResponseItems {
  readonly #id: string;
  /** Those that have ended. */
  readonly output: OutputItem[] = [];
  #open: OutputItem | null = null;
  #text = '';
  #logprobs: TokenLogprob[] = [];

  /** @param id 32 hex digits, for the ids of items. */
  constructor(id: string) {
    this.#id = id;
  }

  /** Whether there is any text in a message. */
  get hasText(): boolean {
    return this.#text !== '';
  }

  /** Whether the item that has not ended is a call. */
  get inCall(): boolean {
    return this.#open?.type === 'function_call';
  }

  /** The message, which pieces of text go on with. */
  begin(): UnnumberedEvent[] {
    const item = this.#message('in_progress', []);
    this.#open = item;
    this.#text = '';
    this.#logprobs = [];
    return [
      { type: 'response.output_item.added', output_index: this.output.length, item },
      { type: 'response.content_part.added', ...this.#place, part: partOf('', []) },
    ];
  }

  take(piece: AnswerPiece, logprobs: TokenLogprob[]): UnnumberedEvent[] {
    switch (piece.kind) {
      case 'text': {
        const begun = this.#open?.type === 'message' ? [] : [...this.end('completed'), ...this.begin()];
        this.#text += piece.text;
        this.#logprobs.push(...logprobs);
        const event = { type: 'response.output_text.delta' as const, ...this.#place };
        return [...begun, { ...event, delta: piece.text, logprobs }];
      }
      case 'call': {
        const ended = this.end('completed');
        const number = this.output.length.toString(36).padStart(2, '0');
        const item: OutputFunctionCall = {
          id: `fc_${this.#id}${number}`,
          type: 'function_call',
          status: 'in_progress',
          call_id: `call_${this.#id.slice(0, 22)}${number}`,
          name: piece.name,
          arguments: '',
        };
        this.#open = item;
        // What was told of it stays as it was.
        return [
          ...ended,
          { type: 'response.output_item.added', output_index: this.output.length, item: { ...item } },
        ];
      }
      case 'arguments': {
        const item = this.#open as OutputFunctionCall;
        item.arguments += piece.text;
        return [
          {
            type: 'response.function_call_arguments.delta',
            item_id: item.id,
            output_index: this.output.length,
            delta: piece.text,
          },
        ];
      }
    }
  }

  /** The last item ends so; nothing when none is open. */
  end(status: Exclude<Status, 'in_progress'>): UnnumberedEvent[] {
    const item = this.#open;
    if (item === null) return [];
    this.#open = null;
    const output_index = this.output.length;
    if (item.type === 'function_call') {
      const call = { ...item, status };
      this.output.push(call);
      const { id, name, arguments: all } = call;
      return [
        { type: 'response.function_call_arguments.done', item_id: id, output_index, name, arguments: all },
        { type: 'response.output_item.done', output_index, item: call },
      ];
    }
    const part = partOf(this.#text, this.#logprobs);
    const place = this.#place;
    const message = this.#message(status, [part]);
    this.output.push(message);
    return [
      { type: 'response.output_text.done', ...place, text: part.text, logprobs: part.logprobs },
      { type: 'response.content_part.done', ...place, part },
      { type: 'response.output_item.done', output_index, item: message },
    ];
  }

  get #place(): { item_id: string; output_index: number; content_index: 0 } {
    return { item_id: this.#messageId, output_index: this.output.length, content_index: 0 };
  }

  /** The first message has the response's own number. */
  get #messageId(): string {
    return `msg_${this.#id}${this.output.length === 0 ? '' : this.output.length.toString(36)}`;
  }

  #message(status: OutputMessage['status'], content: OutputText[]): OutputMessage {
    return { id: this.#messageId, type: 'message', role: 'assistant', status, content };
  }
}

const partOf = (text: string, logprobs: TokenLogprob[]): OutputText => ({
  type: 'output_text',
  text,
  annotations: [],
  logprobs,
});
