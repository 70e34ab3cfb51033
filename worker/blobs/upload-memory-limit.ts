import { err, type ApiError, type Result } from '../../protocol/api-error.ts';

/** Memory that a request wants to hold. */
export interface Holding {
  tenant: string;
  /** A tenant has one check at a time. */
  kind: 'part' | 'check';
  /** Maximum, until the work has ended. */
  bytes: number;
  /** Aborts when nobody waits for it any more. */
  signal?: AbortSignal;
}

/** Bounds the memory of all requests of one isolate. */
export interface UploadMemoryLimit {
  /**
   * Does `work` once there is memory for it, in the order of requests.
   * @param work gets a function to call on progress: after a long silence it counts as cut off.
   * @returns its result; `edge_busy` when there is no memory for too long, or too many wait.
   */
  hold<T>(
    holding: Holding,
    work: (alive: () => void) => Promise<Result<T, ApiError>>,
  ): Promise<Result<T, ApiError>>;
}

interface UploadMemoryLimitOptions {
  /** Bytes in total. */
  capacity: number;
  /** … and for one tenant, so that there is always room for another. */
  tenantCapacity: number;
  maxWaiting: number;
  maxWaitingOfTenant: number;
  maxWaitMs: number;
  pollMs: number;
  /** After this silence a request counts as cut off: its `finally` never runs. */
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
 * Waiting requests poll instead of awaiting a promise: a promise of another request never settles when that
 * request is cut off.
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
    // A check occupies the isolate's only thread for a second or two.
    return kind !== 'check' || !own.some((ticket) => ticket.kind === 'check');
  };
  /** The first whose tenant has room; smaller ones do not overtake it. */
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
