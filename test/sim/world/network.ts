/** HTTP between lives: requests, answers and their bodies travel in virtual time, and may be delayed, cut, silent or doubled. */
import { deferred } from './life-globals.ts';
import type { Surroundings } from './stores.ts';
import type { Life } from './time.ts';

/** What answers requests; null = nobody listens, connections are refused. */
export interface Server {
  life: Life;
  handle: (request: Request) => Response | Promise<Response>;
  /** Has a kernel that closes its connections when it ends. */
}

/** What the schedule asks each minute; its good answers are not worth a line. */
const ROUTINE = /(GET \S+\/metrics|GET \S+\/adapters|PUT \S+\/adapters\/pins)$/;

/** Bytes on their way before the sender waits: a socket's buffers. */
const WINDOW_BYTES = 64 * 1024;
/** After this a server ends a request whose body has not come, ms: Node's own limit. */
const REQUEST_TIMEOUT_MS = 300_000;
/** Breaks come somewhere in an exchange; half of them while the request is on its way. */
const BREAKS_MS = [40, 400];

/** A request that a server has answered. */
export interface Exchange {
  from: Life;
  to: Life;
  what: string;
  headers: Headers;
  status: number;
  /** Since something came from another who was sending this file, or part of it, ms; Infinity = there was none. */
  silentMs: number;
  /** It was sent once and arrives twice; this is one of the two. */
  isCopied: boolean;
  /** The sender has the answer: it has not gone before, and the connection has held. */
  isRead: () => boolean;
  sentAt: number;
  at: number;
}

type Break = 'cut' | 'silent';

/** One connection, for one request. */
class Link {
  broken: Break | null = null;
  #ends: { side: Life; run: () => void }[] = [];

  /** @param run called when it is cut, at this side of it: the streams on it break. */
  onCut(side: Life, run: () => void): void {
    if (this.broken === 'cut') run();
    else this.#ends.push({ side, run });
  }

  /** @param by who closes it; the other side of a silent one does not hear of that. */
  cut(by: Life | null): void {
    if (this.broken === 'cut') return;
    const hear = this.#ends.filter(({ side }) => this.broken === null || side === by);
    this.#ends = this.#ends.filter((one) => !hear.includes(one));
    this.broken ??= 'cut';
    for (const { run } of hear) run();
  }
}

/** undici's errors of a fetch. */
const fetchFailed = (cause: string): Error =>
  Object.assign(new TypeError('fetch failed'), { cause: new Error(cause) });
const terminated = (): Error => new TypeError('terminated');

export class Network {
  readonly #around: Surroundings;
  readonly #life: Life;
  readonly #links = new Map<Life, Set<Link>>();
  /** Requests that a life works on. */
  readonly #open = new Map<object, { life: Life; what: string }>();
  /** By server and file: who sends it, and when something of it last came. */
  readonly #senders = new Map<string, Map<Link, number>>();
  /** Called for each answer, where it is made. */
  onAnswer: (exchange: Exchange) => void = () => undefined;

  constructor(around: Surroundings) {
    this.#around = around;
    this.#life = around.time.life('network', around.random);
  }

  /** Requests without an end so far, of servers that live. */
  open(): string[] {
    return [...this.#open.values()].flatMap(({ life, what }) => (life.dead ? [] : `${life.name} ${what}`));
  }

  /** The process has ended: its kernel closes its connections. */
  ended(life: Life): void {
    const links = [...(this.#links.get(life) ?? [])];
    this.#links.delete(life);
    for (const link of links) link.cut(life);
  }

  /**
   * @param server found when the request arrives; null = refused.
   * @param params.reliable whether no fault happens on the way.
   * @param params.heard whether the connection never falls silent: how long to wait then is the client's matter.
   */
  async fetch(
    from: Life,
    server: () => Server | null,
    url: string,
    init: RequestInit,
    params: { reliable?: boolean; heard?: boolean } = {},
  ): Promise<Response> {
    const { time, random, faults, note } = this.#around;
    const signal = init.signal ?? undefined;
    if (signal?.aborted === true) throw signal.reason as Error;
    const faulty = params.reliable !== true;
    const sentAt = time.now;
    const what = `${init.method ?? 'GET'} ${url}`;
    const way = (): number => 1 + random.below(15);
    const { promise, resolve, reject } = deferred<Response>();
    const link = new Link();
    const lives = new Set<Life>([from]);
    const join = (life: Life): void => {
      lives.add(life);
      const links = this.#links.get(life) ?? new Set();
      links.add(link);
      this.#links.set(life, links);
    };
    const leave = (): void => {
      for (const life of lives) this.#links.get(life)?.delete(link);
    };
    join(from);
    const delay = faulty && faults.bites('net-delay', what) ? random.below(3_000) : 0;
    const twice = faulty && typeof (init.body ?? '') === 'string' && faults.bites('net-twice', what);
    const cutAfter = faulty && faults.bites('net-cut', what) ? random.below(random.pick(BREAKS_MS)) : null;
    const silentAfter =
      faulty && params.heard !== true && faults.bites('net-silent', what)
        ? random.below(random.pick(BREAKS_MS))
        : null;
    const world = this.#life;
    let read = false;
    if (cutAfter !== null) time.after(world, cutAfter, () => link.cut(null));
    if (silentAfter !== null) time.after(world, silentAfter, () => (link.broken ??= 'silent'));
    link.onCut(from, () => time.after(from, way(), () => reject(fetchFailed('other side closed'))));
    /** The client gives up, or leaves: the server learns of it, if anything still gets through. */
    const gone = new AbortController();
    const giveUp = (): void =>
      void time.after(world, way(), () => {
        if (link.broken === null) gone.abort();
      });
    signal?.addEventListener(
      'abort',
      () => {
        reject(signal.reason as Error);
        giveUp();
        link.cut(from);
      },
      { once: true },
    );

    const arrive = (first: boolean): void => {
      if (link.broken !== null) return;
      const to = server();
      if (to === null) {
        if (first) time.after(from, way(), () => reject(fetchFailed('ECONNREFUSED')));
        return;
      }
      if (first) join(to.life);
      // A stopped process's kernel accepts connections; nothing is read.
      time.after(to.life, 0, () => {
        const aborts = first ? gone : new AbortController();
        const file = `${to.life.name} ${url.replace(/\/parts\/\d+$/, '')}`;
        const senders = this.#senders.get(file) ?? new Map<Link, number>();
        this.#senders.set(file, senders);
        const silentMs = time.now - Math.max(-Infinity, ...senders.values());
        let whole = !(init.body instanceof ReadableStream);
        const heard = (ended: boolean): void => {
          whole ||= ended;
          if (senders.has(link)) senders.set(link, time.now);
        };
        if (!whole) senders.set(link, time.now);
        const body =
          init.body instanceof ReadableStream
            ? this.pipe(init.body as ReadableStream<Uint8Array>, from, to.life, link, () => undefined, {
                heard,
              })
            : init.body;
        if (!whole)
          time.after(to.life, REQUEST_TIMEOUT_MS, () => {
            if (!whole) link.cut(to.life);
          });
        const headers = new Headers(init.headers);
        if (typeof body === 'string' || body instanceof Uint8Array)
          headers.set('content-length', String(Buffer.byteLength(body)));
        const request = new Request(url, {
          method: init.method ?? 'GET',
          headers,
          ...(body == null ? {} : { body }),
          ...(body instanceof ReadableStream ? { duplex: 'half' } : {}),
        } as RequestInit);
        // undici's own signal holds its source weakly: garbage collection would decide whether it is heard.
        Object.defineProperty(request, 'signal', { value: aborts.signal });
        link.onCut(to.life, () => time.after(to.life, way(), () => aborts.abort()));
        this.#open.set(request, { life: to.life, what });
        let answered: Promise<Response>;
        try {
          answered = Promise.resolve(to.handle(request));
        } catch (error) {
          answered = Promise.reject(error as Error);
        }
        answered.then(
          (response) => {
            senders.delete(link);
            this.onAnswer({
              from,
              to: to.life,
              what,
              headers: request.headers,
              status: response.status,
              silentMs,
              isCopied: twice,
              isRead: () => read,
              sentAt,
              at: time.now,
            });
            const end = (): void => {
              this.#open.delete(request);
              if (first) leave();
            };
            const stream = response.body;
            if (response.status !== 200 || !ROUTINE.test(what))
              note(
                'net',
                `${first ? '' : 'again '}${what.replace('.test/', '/').replace(/https?:\/\//, '')} ${response.status}`,
              );
            if (!first) {
              void stream?.cancel().catch(() => undefined);
              return end();
            }
            const headers = new Headers(response.headers);
            const status = response.status;
            // Starts to flow at once, as bytes do, also when nobody has taken the headers yet.
            const piped =
              stream === null
                ? null
                : this.pipe(stream as ReadableStream<Uint8Array>, to.life, from, link, end, {
                    left: () => aborts.abort(),
                  });
            if (stream === null) end();
            time.after(from, way(), () => {
              if (link.broken !== null) return;
              read = true;
              resolve(new Response(status === 204 || status === 304 ? null : piped, { status, headers }));
            });
          },
          (error: unknown) => {
            senders.delete(link);
            this.#open.delete(request);
            note('net', `${what} threw ${String(error)}`);
            link.cut(to.life);
          },
        );
      });
    };
    time.after(world, way() + delay, () => arrive(true));
    if (twice) time.after(world, way() + delay + random.below(2_000), () => arrive(false));
    return promise;
  }

  /**
   * A body on its way.
   * @param on.left called when the reader has cancelled, where the writer is.
   * @param on.heard called where the reader is, for each piece and at the end.
   */
  pipe(
    source: ReadableStream<Uint8Array>,
    from: Life,
    to: Life,
    link: Link,
    end: () => void,
    on: { left?: () => void; heard?: (ended: boolean) => void },
  ): ReadableStream<Uint8Array> {
    const { time, random } = this.#around;
    const reader = source.getReader();
    let onWay = 0;
    /** Delivered, and not taken by the reader. */
    let waiting = 0;
    let lastAt = 0;
    let ended = false;
    let pulled: (() => void) | null = null;
    const finish = (): void => {
      if (!ended) end();
      ended = true;
    };
    const stopReading = (why: Error): void => {
      finish();
      reader.cancel(why).catch(() => undefined);
    };
    /** In order: nothing overtakes what was sent before. */
    const deliver = (run: () => void): void => {
      lastAt = Math.max(lastAt, time.now + 1 + random.below(15));
      time.after(to, lastAt - time.now, () => {
        if (link.broken === null) run();
      });
    };
    return new ReadableStream<Uint8Array>(
      {
        start(controller) {
          const fail = (): void => {
            try {
              controller.error(terminated());
            } catch {
              // It has ended already.
            }
          };
          link.onCut(to, () => void time.after(to, 1 + random.below(15), fail));
          link.onCut(from, () => {
            time.after(from, 1 + random.below(15), () => stopReading(terminated()));
            finish();
          });
          const send = async (): Promise<void> => {
            for (;;) {
              while (onWay >= WINDOW_BYTES) await new Promise<void>((resolve) => (pulled = resolve));
              const { done, value } = await reader.read();
              if (done) break;
              onWay += value.length;
              const bytes = value.slice();
              deliver(() => {
                on.heard?.(false);
                try {
                  controller.enqueue(bytes);
                } catch {
                  // The reader has left.
                }
                if ((controller.desiredSize ?? 1) > 0) onWay -= bytes.length;
                else waiting += bytes.length;
              });
            }
            finish();
            deliver(() => {
              on.heard?.(true);
              try {
                controller.close();
              } catch {
                // The reader has left.
              }
            });
          };
          // A writer that fails in the middle closes the connection.
          send().catch(() => {
            finish();
            link.cut(from);
          });
        },
        pull() {
          // The sender hears of it where it is.
          const [taken, go] = [waiting, pulled];
          waiting = 0;
          pulled = null;
          time.after(from, 1, () => {
            onWay -= taken;
            go?.();
          });
        },
        cancel() {
          time.after(from, 1 + random.below(15), () => {
            if (link.broken !== null) return;
            on.left?.();
            stopReading(new Error('the reader has left'));
            link.broken = 'cut';
          });
        },
      },
      new ByteLengthQueuingStrategy({ highWaterMark: WINDOW_BYTES }),
    );
  }
}
