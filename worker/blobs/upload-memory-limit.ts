import { err, type ApiError, type Result } from '../../protocol/api-error.ts';

/** What somebody wants to hold. */
export interface Holding {
  tenant: string;
  /** A tenant has one check at a time. */
  kind: 'part' | 'check';
  /** At most, until the work has ended. */
  bytes: number;
  /** Aborts when nobody wants it any more. */
  signal?: AbortSignal;
}

/** Bounds what the requests of one isolate hold together. */
export interface UploadMemoryLimit {
  /**
   * Does `work` once there is room for its bytes, in the order of asking.
   * @param work is given a function to call whenever it gets on: what gives no sign of life for long is taken for cut off.
   * @returns what it returns; `edge_busy` when there is no room for too long, or too many wait.
   */
  hold<T>(
    holding: Holding,
    work: (alive: () => void) => Promise<Result<T, ApiError>>,
  ): Promise<Result<T, ApiError>>;
}

interface UploadMemoryLimitOptions {
  /** Bytes that all hold together, at most. */
  capacity: number;
  /** … and one tenant, so that there is always room for another. */
  tenantCapacity: number;
  maxWaiting: number;
  maxWaitingOfTenant: number;
  maxWaitMs: number;
  pollMs: number;
  /** Without a sign of life for so long somebody was cut off: its `finally` never runs. */
  staleMs: number;
  retryAfterMs: number;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}

interface Ticket extends Holding {
  seenAt: number;
}

const sum = (tickets: readonly Ticket[]): number =>
  tickets.reduce((bytes, ticket) => bytes + ticket.bytes, 0);

/**
 * Those who wait look again and again rather than wait for a promise: a promise of another request never settles when
 * that request is cut off.
 */
export function createUploadMemoryLimit(options: UploadMemoryLimitOptions): UploadMemoryLimit {
  const { capacity, tenantCapacity, now, sleep } = options;
  let holding: Ticket[] = [];
  let waiting: Ticket[] = [];

  const forgetDead = () => {
    const isAlive = ({ seenAt }: Ticket) => now() - seenAt <= options.staleMs;
    holding = holding.filter(isAlive);
    waiting = waiting.filter(isAlive);
  };
  const hasTurn = ({ tenant, kind, bytes }: Ticket): boolean => {
    const own = holding.filter((ticket) => ticket.tenant === tenant);
    if (own.length > 0 && sum(own) + bytes > tenantCapacity) return false;
    // A check takes the isolate's one thread for a second or two.
    return kind !== 'check' || !own.some((ticket) => ticket.kind === 'check');
  };
  /** The first whose tenant has room; it is not passed over by smaller ones. */
  const mayBegin = (ticket: Ticket): boolean =>
    waiting.find(hasTurn) === ticket && sum(holding) + ticket.bytes <= capacity;
  const isFull = ({ tenant }: Holding): boolean =>
    waiting.length >= options.maxWaiting ||
    waiting.filter((ticket) => ticket.tenant === tenant).length >= options.maxWaitingOfTenant;

  async function getRoom(ticket: Ticket): Promise<boolean> {
    forgetDead();
    if (isFull(ticket)) return false;
    waiting.push(ticket);
    const until = now() + options.maxWaitMs;
    try {
      while (!mayBegin(ticket)) {
        if (now() >= until || ticket.signal?.aborted) return false;
        await sleep(options.pollMs);
        ticket.seenAt = now();
        forgetDead();
        if (!waiting.includes(ticket)) waiting.push(ticket);
      }
      holding.push(ticket);
      return true;
    } finally {
      waiting = waiting.filter((other) => other !== ticket);
    }
  }

  return {
    async hold(wish, work) {
      const ticket: Ticket = { ...wish, seenAt: now() };
      if (!(await getRoom(ticket)))
        return err({
          code: 'edge_busy',
          message: 'Too many large files are being uploaded here. Retry in a few seconds.',
          retryAfterMs: options.retryAfterMs,
        });
      try {
        return await work(() => {
          ticket.seenAt = now();
        });
      } finally {
        holding = holding.filter((other) => other !== ticket);
      }
    },
  };
}
