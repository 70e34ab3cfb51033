/** Cuts what an origin streams into whole events, and knows how the last of them ends the answer. */

const LF = 10;
/** Bytes of an event's beginning that tell what it is: the longest name of an ending has 26. */
const HEAD_BYTES = 32;

/** How the last event of each API says that the answer is whole, or why it is not. */
const ENDINGS: Record<string, Endings | undefined> = {
  '/v1/responses': {
    whole: /^event: response\.(completed|incomplete)\n/,
    told: /^event: (response\.failed|error)\n/,
  },
  '/v1/messages': { whole: /^event: message_stop\n/, told: /^event: error\n/ },
};
const OTHER_ENDINGS: Endings = { whole: /^data: \[DONE\]\n/, told: /^data: \{"error":/ };

interface Endings {
  whole: RegExp;
  told: RegExp;
}

export class OriginFrames {
  readonly #endings: Endings;
  readonly #maxHeldBytes: number;
  #held: Uint8Array | null = null;
  /** The beginning of the last event that went by. */
  #head = '';
  /** What went by ends with a whole event. */
  #atEventStart = true;

  /** @param maxHeldBytes an event that is not complete by then is passed on as it is. */
  constructor(path: string, maxHeldBytes: number) {
    this.#endings = ENDINGS[path] ?? OTHER_ENDINGS;
    this.#maxHeldBytes = maxHeldBytes;
  }

  /** @returns what goes on: whole events; null when none is complete. */
  push(value: Uint8Array): Uint8Array | null {
    const bytes = this.#held === null ? value : join(this.#held, value);
    const whole = bytes.length > this.#maxHeldBytes ? bytes.length : endOfEvents(bytes, bytes.length);
    this.#held = whole === bytes.length ? null : bytes.subarray(whole);
    if (whole === 0) return null;
    const passed = whole === bytes.length ? bytes : bytes.subarray(0, whole);
    this.#noteHead(passed);
    return passed;
  }

  /** The origin has closed its stream, or it broke: what came last decides. */
  end(): 'whole' | 'told' | 'cut' {
    if (this.#held !== null) return 'cut';
    if (this.#endings.whole.test(this.#head)) return 'whole';
    return this.#endings.told.test(this.#head) ? 'told' : 'cut';
  }

  #noteHead(passed: Uint8Array): void {
    const isWhole = endOfEvents(passed, passed.length) === passed.length;
    const from = endOfEvents(passed, isWhole ? passed.length - 1 : passed.length);
    if (from > 0 || this.#atEventStart)
      this.#head = new TextDecoder().decode(passed.subarray(from, from + HEAD_BYTES));
    this.#atEventStart = isWhole;
  }
}

/** Index behind the last blank line before `to`, 0 when there is none. */
function endOfEvents(bytes: Uint8Array, to: number): number {
  for (let i = to - 1; i > 0; i -= 1) if (bytes[i] === LF && bytes[i - 1] === LF) return i + 1;
  return 0;
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
