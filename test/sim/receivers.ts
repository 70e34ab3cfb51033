/** Tenants' own applications, which the edge calls: webhooks, and judges of pairs. What it sends is signed and theirs. */
import { signatureOf } from '../fakes/standard-webhooks.ts';
import type { Fail } from './invariants/fail.ts';
import type { Life } from './world/time.ts';
import type { World } from './world/world.ts';

/** A call that had begun when its tenant was erased has ended after this time, ms. */
const UNDER_WAY_MS = 60_000;
const SLOW_MS = 12_000;

export interface Pair {
  prompt: { role: string; content: string }[];
  answers: { a: string; b: string };
}

interface Place {
  tenant: string;
  /** `whsec_…`; null = nobody knows it yet. */
  secret: string | null;
  erasedAt: number | null;
  /** What is wrong with a pair that is to be judged here; null = nothing. Absent: a webhook. */
  check?: (pair: Pair) => string | null;
}

export class Receivers {
  /** Ids of messages that were taken. */
  readonly taken = new Set<string>();
  readonly #world: World;
  readonly #fail: Fail;
  readonly #places = new Map<string, Place>();

  constructor(world: World, fail: Fail) {
    this.#world = world;
    this.#fail = fail;
  }

  /** A new address of the tenant. */
  open(tenant: string, check?: Place['check']): string {
    const host = `app.${tenant}.example.com`;
    if (!this.#world.receivers.has(host)) {
      const life = this.#world.client(host);
      this.#world.receivers.set(host, { life, handle: (request) => this.#handle(life, request) });
    }
    const url = `https://${host}/${this.#places.size + 1}`;
    this.#places.set(url, {
      tenant,
      secret: null,
      erasedAt: null,
      ...(check === undefined ? {} : { check }),
    });
    return url;
  }

  know(url: string, secret: string): void {
    const place = this.#places.get(url);
    if (place !== undefined) place.secret = secret;
  }

  /** Nothing more may come. */
  erased(tenant: string): void {
    for (const place of this.#places.values())
      if (place.tenant === tenant) place.erasedAt ??= this.#world.time.now;
  }

  async #handle(life: Life, request: Request): Promise<Response> {
    const { time, faults } = this.#world;
    const place = this.#places.get(request.url);
    const body = await request.text();
    const what = `${request.url} got ${body.slice(0, 300)}`;
    if (place === undefined) {
      this.#fail('the edge calls what it was told', what);
      return new Response(null, { status: 404 });
    }
    if (place.erasedAt !== null && time.now > place.erasedAt + UNDER_WAY_MS)
      this.#fail('6 nothing of it is left after an erasure', `${what}, erased at ${place.erasedAt}`);
    const id = request.headers.get('webhook-id') ?? '';
    const at = request.headers.get('webhook-timestamp') ?? '';
    if (place.secret !== null) {
      if (request.headers.get('webhook-signature') !== signatureOf({ id, at, body }, place.secret))
        this.#fail('what the edge sends is signed', what);
    }
    // An application may fail or be slow, as long as anything may.
    if (faults.on && life.random.chance(0.2)) {
      if (life.random.chance(0.3)) await time.sleep(life, life.random.below(SLOW_MS));
      if (life.random.chance(0.7)) return new Response('no', { status: 500 });
    }
    if (place.check === undefined) {
      this.taken.add(id);
      return new Response(null, { status: 204 });
    }
    const wrong = place.check(JSON.parse(body) as Pair);
    if (wrong !== null) this.#fail('a pair is what was asked and answered', `${what}: ${wrong}`);
    return Response.json({ choice: life.random.pick(['a', 'b', 'tie']) });
  }
}
