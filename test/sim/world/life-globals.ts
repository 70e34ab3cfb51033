/**
 * What programs of the simulated world see instead of Node's clock, timers, randomness, cryptography and network:
 * everything whose answer, or whose moment, would not follow from the seed. The bundles get these names as
 * parameters; each use belongs to the life whose event runs. What is not here and not deterministic throws ({@link
 * FORBIDDEN}).
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createSecretKey,
  hash,
  hkdfSync,
  type KeyObject,
  timingSafeEqual,
} from 'node:crypto';
import { setMaxListeners } from 'node:events';
import type { Random } from './random.ts';
import type { Life, VirtualTime } from './time.ts';

/** Names that a simulated program must not use: their moment or their answer depends on the machine. */
const FORBIDDEN = [
  'WebSocket',
  'MessageChannel',
  'CompressionStream',
  'DecompressionStream',
  'Worker',
  'Atomics',
  'FinalizationRegistry',
];

/** Counts a mark ({@link import('../marks.ts').MARKS}). */
export const MARK_GLOBAL = 'graftSimulationMark';

export const GLOBAL_NAMES = [
  MARK_GLOBAL,
  'Date',
  'performance',
  'setTimeout',
  'clearTimeout',
  'setInterval',
  'clearInterval',
  'setImmediate',
  'clearImmediate',
  'Math',
  'crypto',
  'AbortSignal',
  'fetch',
  'caches',
  'console',
  ...FORBIDDEN,
] as const;

/** The world that runs in this process; one at a time. */
export const stage: {
  time: VirtualTime | null;
  /** Highest delay of an answer of Web Crypto, ms; 0 = at once. */
  cryptoDelayMs: number;
  /** How often each mark was reached. */
  marks: Map<string, number>;
} = { time: null, cryptoDelayMs: 0, marks: new Map() };

/** @throws when a program runs outside of its life's events: what it did would not follow from the seed. */
function running(): { time: VirtualTime; life: Life } {
  const { time } = stage;
  const life = time?.current ?? null;
  if (time === null || life === null) throw new Error('a simulated program runs outside of an event');
  return { time, life };
}

/** 0 while a program is loaded: libraries look at the clock. */
const now = (): number => {
  if (stage.time?.current == null) return 0;
  const { time, life } = running();
  return time.now + life.skewMs;
};

/** Values of {@link GLOBAL_NAMES}, in their order. */
export function simulatedGlobals(): unknown[] {
  const write = (...parts: unknown[]): void => running().life.log(parts.map(String).join(' '));
  const values: Record<string, unknown> = {
    [MARK_GLOBAL]: (mark: string) => void stage.marks.set(mark, (stage.marks.get(mark) ?? 0) + 1),
    Date: dateOf(),
    performance: {
      now: () => running().time.now - running().life.born,
      get timeOrigin() {
        return running().life.born + running().life.skewMs;
      },
    },
    ...TIMERS,
    Math: Object.create(Math, { random: { value: () => running().life.random.next() } }),
    crypto: CRYPTO,
    AbortSignal: ABORT_SIGNAL,
    fetch: (url: string, init: RequestInit = {}) => running().life.fetch(String(url), init),
    caches: { open: (name: string) => running().life.caches.open(name) },
    console: { log: write, info: write, warn: write, error: write, debug: write },
  };
  for (const name of FORBIDDEN) values[name] = forbidden(name);
  return GLOBAL_NAMES.map((name) => values[name]);
}

/** Throws when it is called or constructed. */
export function forbidden(name: string): unknown {
  return function refuse(): never {
    throw new Error(`a simulated program used ${name}`);
  };
}

function dateOf(): DateConstructor {
  return class SimDate extends Date {
    constructor(...given: unknown[]) {
      if (given.length === 0) super(now());
      else super(...(given as [number]));
    }
    static override now(): number {
      return now();
    }
  } as unknown as DateConstructor;
}

/** Node's timers are objects that can be unreferenced; workerd's are numbers. Both are accepted back. */
class Timer {
  cancel: () => void = () => undefined;
  /** Begins anew. */
  restart: () => void = () => undefined;
  refresh(): this {
    this.cancel();
    this.restart();
    return this;
  }
  unref(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  hasRef(): boolean {
    return true;
  }
}

type Callback = (...given: unknown[]) => void;

const clear = (timer: Timer | undefined): void => timer?.cancel();

const TIMERS = {
  setTimeout(run: Callback, ms?: number, ...given: unknown[]): Timer {
    const { time, life } = running();
    const timer = new Timer();
    timer.restart = () => {
      timer.cancel = time.after(life, Math.max(1, ms ?? 1), () => run(...given));
    };
    timer.restart();
    return timer;
  },
  clearTimeout: clear,
  setInterval(run: Callback, ms?: number, ...given: unknown[]): Timer {
    const { time, life } = running();
    const timer = new Timer();
    const again = (): void => {
      timer.cancel = time.after(life, Math.max(1, ms ?? 1), () => {
        again();
        run(...given);
      });
    };
    again();
    return timer;
  },
  clearInterval: clear,
  setImmediate(run: Callback, ...given: unknown[]): Timer {
    const { time, life } = running();
    const timer = new Timer();
    timer.cancel = time.after(life, 0, () => run(...given));
    return timer;
  },
  clearImmediate: clear,
};

/** Node's own `any` and `timeout` hold their sources weakly, so that garbage collection decides what they do. */
const ABORT_SIGNAL = {
  /** For `instanceof`. */
  [Symbol.hasInstance]: (value: unknown) => value instanceof AbortSignal,
  abort: (reason?: unknown) => AbortSignal.abort(reason),
  timeout(ms: number) {
    const { time, life } = running();
    const controller = new AbortController();
    time.after(life, ms, () =>
      controller.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError')),
    );
    return controller.signal;
  },
  any(signals: readonly AbortSignal[]) {
    const controller = new AbortController();
    for (const signal of signals) {
      if (signal.aborted) {
        controller.abort(signal.reason);
        break;
      }
      setMaxListeners(0, signal);
      signal.addEventListener('abort', () => controller.abort(signal.reason), { once: true });
    }
    return controller.signal;
  },
};

interface SimKey {
  raw: Buffer;
  /** Made of `raw` when it is first needed. */
  secret: KeyObject | null;
  usages: readonly string[];
}

const bytesOf = (data: ArrayBuffer | ArrayBufferView): Buffer =>
  data instanceof ArrayBuffer
    ? Buffer.from(data)
    : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
const bufferOf = (bytes: Uint8Array): ArrayBuffer => Uint8Array.from(bytes).buffer;
const TAG_BYTES = 16;

/** As much of Web Crypto as the product uses, computed at once and answered after a time from the seed. */
async function later<T>(work: () => T): Promise<T> {
  if (stage.cryptoDelayMs > 0) {
    const { time, life } = running();
    await time.sleep(life, life.random.below(stage.cryptoDelayMs + 1));
  }
  return work();
}

const hmac = (key: SimKey, data: ArrayBuffer | ArrayBufferView): Buffer =>
  createHmac('sha256', (key.secret ??= createSecretKey(key.raw)))
    .update(bytesOf(data))
    .digest();

interface Gcm {
  iv: Uint8Array;
  additionalData?: Uint8Array;
}

const SUBTLE = {
  importKey: async (
    _format: string,
    raw: ArrayBuffer | ArrayBufferView,
    _algorithm: unknown,
    _extractable: boolean,
    usages: string[],
  ) => ({
    raw: Buffer.from(bytesOf(raw)),
    secret: null,
    usages,
  }),
  sign: (_algorithm: string, key: SimKey, data: ArrayBuffer | ArrayBufferView) =>
    later(() => bufferOf(hmac(key, data))),
  verify: (
    _algorithm: string,
    key: SimKey,
    mac: ArrayBuffer | ArrayBufferView,
    data: ArrayBuffer | ArrayBufferView,
  ) =>
    later(() => {
      const [wanted, given] = [hmac(key, data), bytesOf(mac)];
      return wanted.length === given.length && timingSafeEqual(wanted, given);
    }),
  digest: (_algorithm: string, data: ArrayBuffer | ArrayBufferView) =>
    later(() => bufferOf(hash('sha256', bytesOf(data), 'buffer'))),
  deriveBits: (algorithm: { salt: Uint8Array; info: Uint8Array }, key: SimKey, bits: number) =>
    later(() => hkdfSync('sha256', key.raw, algorithm.salt, algorithm.info, bits / 8)),
  encrypt: ({ iv, additionalData }: Gcm, key: SimKey, data: ArrayBuffer | ArrayBufferView) =>
    later(() => {
      const cipher = createCipheriv('aes-256-gcm', key.raw, iv);
      if (additionalData !== undefined) cipher.setAAD(additionalData);
      return bufferOf(Buffer.concat([cipher.update(bytesOf(data)), cipher.final(), cipher.getAuthTag()]));
    }),
  decrypt: ({ iv, additionalData }: Gcm, key: SimKey, data: ArrayBuffer | ArrayBufferView) =>
    later(() => {
      const all = bytesOf(data);
      const cipher = createDecipheriv('aes-256-gcm', key.raw, iv);
      if (additionalData !== undefined) cipher.setAAD(additionalData);
      cipher.setAuthTag(all.subarray(all.length - TAG_BYTES));
      try {
        return bufferOf(
          Buffer.concat([cipher.update(all.subarray(0, all.length - TAG_BYTES)), cipher.final()]),
        );
      } catch {
        throw new DOMException('The operation failed for an operation-specific reason', 'OperationError');
      }
    }),
};

const CRYPTO = {
  subtle: SUBTLE,
  getRandomValues<T extends Uint8Array>(array: T): T {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    bytes.set(running().life.random.bytes(bytes.length));
    return array;
  },
  randomUUID: () => uuidOf(running().life.random),
  /** workerd's: a stream that is hashed. */
  DigestStream: class extends WritableStream<Uint8Array> {
    readonly digest: Promise<ArrayBuffer>;
    constructor() {
      const whole = createHash('sha256');
      const { promise, resolve } = deferred<ArrayBuffer>();
      super({
        write: (chunk) => void whole.update(chunk),
        close: () => resolve(bufferOf(whole.digest())),
      });
      this.digest = promise;
    }
  },
};

/** The parts of `node:crypto` that would be random. */
export const nodeRandom = {
  randomBytes: (n: number) => Buffer.from(running().life.random.bytes(n)),
  randomUUID: () => uuidOf(running().life.random),
};

export function deferred<T>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: unknown) => void;
} {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

/** Version 4. */
function uuidOf(random: Random): string {
  const bytes = random.bytes(16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  const hex = Buffer.from(bytes).toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
