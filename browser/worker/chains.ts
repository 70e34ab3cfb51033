/**
 * Adapters by name: the edge's live version if it can be asked, otherwise the stored one; those that were trained here;
 * files by their digest.
 */
import { z } from 'zod';
import type { AdapterSource } from '../../gpu-origin/engine/ports.ts';
import { DownloadChain } from '../../protocol/browser-downloads.ts';
import { ChainEntry } from '../../protocol/identity.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import { GraftError, type Kept, type Progress, type Serving } from '../messages.ts';
import { refusalOf } from './edge-refusal.ts';
import { fetchBytes, Refused, PrivateFolder, sha256 } from './stored-files.ts';

/** The chain behind a name, root first. */
export interface Served extends Serving {
  readonly chain: readonly ChainEntry[];
}

export interface UseParams {
  name: string;
  /** A download token; null = none. */
  token: string | null;
  signal: AbortSignal;
  onProgress: (progress: Progress) => void;
}

type Member = DownloadChain['chain'][number];
/** `token` of the request, and its purpose. */
type Asking = UseParams & { edge: string };

/** An adapter that was trained here. */
const KeptRecord = z.object({
  name: z.string(),
  /** Digest of the base. */
  base: z.string(),
  /** Root first; the last one is the adapter itself. */
  chain: z.array(ChainEntry).min(1),
  card: z.custom<Kept['card']>((card) => typeof card === 'object' && card !== null),
});
type KeptRecord = z.infer<typeof KeptRecord>;

/** Name of the file that takes room. */
const RESERVED = 'reserved';

const fileName = (digest: string): string => `${digest}.safetensors`;

export class Chains implements AdapterSource {
  /** Names with their last used versions. */
  readonly #used = new Map<string, Served>();

  private constructor(
    private readonly edge: string | null,
    private readonly base: Pick<BaseInfo, 'id' | 'digest'>,
    private readonly files: PrivateFolder,
    private readonly names: PrivateFolder,
    private readonly trained: PrivateFolder,
  ) {}

  /** @param edge null = adapters are unavailable. @throws GraftError */
  static async open(edge: string | null, base: Pick<BaseInfo, 'id' | 'digest'>): Promise<Chains> {
    const folders = ['adapters', 'names', 'trained'] as const;
    const [files, names, trained] = await Promise.all(folders.map((name) => PrivateFolder.open(name)));
    return new Chains(edge, base, files!, names!, trained!);
  }

  async status(digest: string): Promise<'held' | 'missing'> {
    return (await this.files.file(fileName(digest))) === null ? 'missing' : 'held';
  }

  /** @returns null also when the stored data does not match its name. */
  async read(digest: string): Promise<Uint8Array<ArrayBuffer> | null> {
    const file = await this.files.file(fileName(digest));
    if (file === null) return null;
    const bytes = new Uint8Array(await file.arrayBuffer());
    return (await sha256(bytes)) === digest ? bytes : null;
  }

  /** The last used version; otherwise selects the name. @throws GraftError */
  async find(params: UseParams): Promise<Served> {
    return this.#used.get(params.name) ?? this.use(params);
  }

  /** Asks the edge, and stores what is missing. @throws GraftError */
  async use(params: UseParams): Promise<Served> {
    const { name, signal } = params;
    const { edge } = this;
    if (edge === null)
      throw new GraftError({
        code: 'invalid_request',
        message: `'${name}' comes from an edge. Open the model with the edge's 'url'.`,
        param: 'url',
      });
    const served = await navigator.locks.request('graft-adapters', { signal }, () =>
      this.#useAlone({ ...params, edge }),
    );
    this.#used.set(name, served);
    return served;
  }

  async #useAlone(params: Asking): Promise<Served> {
    const { name, edge } = params;
    const key = `${await sha256(new TextEncoder().encode(`${edge}\n${name}`))}.json`;
    const answer = await askEdge(params);
    const stored = answer === null ? await storedChain(await this.names.file(key)) : null;
    const found = answer ?? stored;
    if (found === null)
      throw new GraftError({
        code: 'edge_unreachable',
        message:
          `${edge} cannot be reached, and '${name}' is not stored here yet. If this page has another ` +
          'origin, the edge must allow it (CORS_ORIGINS).',
      });
    if (found.base.digest !== this.base.digest)
      throw new GraftError({
        code: 'adapter_invalid',
        message:
          `'${name}' is for the base ${found.base.id} (${found.base.digest.slice(0, 12)}), but ` +
          `${this.base.id} (${this.base.digest.slice(0, 12)}) is open.`,
      });
    await this.#fetchMissing(found, params);
    if (answer !== null) {
      await this.names.write(key, new TextEncoder().encode(JSON.stringify(answer)));
      await this.#removeOthers();
    }
    const chain = found.chain.map(({ digest, scale }) => ({ digest, scale }));
    return { name, version: found.version, offline: answer === null, chain };
  }

  async #fetchMissing(found: DownloadChain, params: Asking): Promise<void> {
    const missing: Member[] = [];
    for (const member of found.chain) if ((await this.read(member.digest)) === null) missing.push(member);
    const total = missing.reduce((sum, { bytes }) => sum + bytes, 0);
    let done = 0;
    for (const member of missing) {
      const bytes = await fetchMember(found, member, params, (came) =>
        params.onProgress({ stage: 'adapter', done: done + came, total }),
      );
      await this.files.write(fileName(member.digest), bytes);
      done += member.bytes;
    }
  }

  /** The adapters that were trained here for this base, by name. */
  async kept(): Promise<Kept[]> {
    const kept = (await this.#records()).filter(({ base }) => base === this.base.digest);
    return kept
      .map(({ name, chain, card }) => ({ name, digest: chain.at(-1)!.digest, card }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** @throws GraftError `model_not_found` */
  async findKept(name: string): Promise<Served> {
    const record = await storedRecord(await this.trained.file(await this.#keyOf(name)));
    if (record !== null) return { name, version: null, offline: false, trained: true, chain: record.chain };
    throw new GraftError({
      code: 'model_not_found',
      message: `No adapter '${name}' was trained in this browser on ${this.base.id}. model.trained() lists those that were.`,
    });
  }

  /**
   * Takes room for a result before the work for it begins; `release` gives it back.
   * @throws GraftError `storage_full`
   */
  async reserve(bytes: number): Promise<void> {
    try {
      await this.trained.write(RESERVED, new Uint8Array(bytes));
    } catch (error) {
      if (!(error instanceof GraftError) || error.code !== 'storage_full') throw error;
      const message =
        `The browser's storage for this page has no ${Math.ceil(bytes / 1e6)} MB left for the adapter. Free disk ` +
        'space, use a smaller rank, or remove what this site stores.';
      throw new GraftError({ code: error.code, message });
    }
  }

  release(): Promise<void> {
    return this.trained.remove(RESERVED);
  }

  /**
   * Keeps a trained adapter, in place of another one of this name.
   * @param params.chain root first, with their files; the last one is the adapter. @throws GraftError `storage_full`
   */
  async keep(params: {
    name: string;
    chain: readonly (ChainEntry & { file: Uint8Array<ArrayBuffer> })[];
    card: Kept['card'];
  }): Promise<Kept> {
    const { name, card } = params;
    const chain = params.chain.map(({ digest, scale }) => ({ digest, scale }));
    const record: KeptRecord = { name, base: this.base.digest, chain, card };
    const key = await this.#keyOf(name);
    await navigator.locks.request('graft-adapters', async () => {
      // An update of the edge may have removed files below it meanwhile.
      for (const { digest, file } of params.chain)
        if ((await this.read(digest)) === null) await this.files.write(fileName(digest), file);
      await this.trained.write(key, new TextEncoder().encode(JSON.stringify(record)));
      await this.#removeOthers();
    });
    return { name, digest: chain.at(-1)!.digest, card };
  }

  /** Removes a trained adapter; a name that is not kept stays so. */
  async forget(name: string): Promise<void> {
    const key = await this.#keyOf(name);
    await navigator.locks.request('graft-adapters', async () => {
      await this.trained.remove(key);
      await this.#removeOthers();
    });
  }

  /** Names are of any form, and those of another base are others. */
  async #keyOf(name: string): Promise<string> {
    return `${await sha256(new TextEncoder().encode(`${this.base.digest}\n${name}`))}.json`;
  }

  async #records(): Promise<KeptRecord[]> {
    const records: KeptRecord[] = [];
    for (const key of await this.trained.names()) {
      if (key === RESERVED) continue;
      const record = await storedRecord(await this.trained.file(key));
      if (record !== null) records.push(record);
    }
    return records;
  }

  /** Files that no stored name uses: of older versions. Those of running rows are in memory. */
  async #removeOthers(): Promise<void> {
    const kept = new Set<string>();
    for (const { chain } of await this.#records()) for (const { digest } of chain) kept.add(fileName(digest));
    for (const name of await this.names.names())
      for (const { digest } of (await storedChain(await this.names.file(name)))?.chain ?? [])
        kept.add(fileName(digest));
    for (const { chain } of this.#used.values()) for (const { digest } of chain) kept.add(fileName(digest));
    for (const name of await this.files.names()) if (!kept.has(name)) await this.files.remove(name);
  }
}

const headers = ({ token }: Asking): Record<string, string> =>
  token === null ? {} : { authorization: `Bearer ${token}` };

/** @returns null when the edge cannot be reached, or cannot answer now. @throws GraftError for refusals. */
async function askEdge(params: Asking): Promise<DownloadChain | null> {
  const { edge, name, signal } = params;
  const address = new URL('/v1/downloads', edge);
  address.searchParams.set('name', name);
  let response: Response;
  try {
    response = await fetch(address, { headers: headers(params), cache: 'no-store', signal });
  } catch (error) {
    if (signal.aborted) throw error;
    return null;
  }
  if (response.status >= 500) return null;
  if (!response.ok) throw new GraftError(await refusalOf(response));
  const parsed = DownloadChain.safeParse(await response.json());
  if (parsed.success) return parsed.data;
  throw new GraftError({
    code: 'adapter_damaged',
    message: `This version of graft cannot read the answer of ${edge}.`,
  });
}

const storedChain = (file: File | null): Promise<DownloadChain | null> => stored(file, DownloadChain);
const storedRecord = (file: File | null): Promise<KeptRecord | null> => stored(file, KeptRecord);

async function stored<T>(file: File | null, schema: z.ZodType<T>): Promise<T | null> {
  if (file === null) return null;
  try {
    return schema.parse(JSON.parse(await file.text()));
  } catch {
    return null;
  }
}

/** @returns the whole file; each part, and the whole, verified by its digest. @throws GraftError */
async function fetchMember(
  { name, version }: DownloadChain,
  { digest, bytes, parts }: Member,
  params: Asking,
  onBytes: (came: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  const all = new Uint8Array(bytes);
  let at = 0;
  for (const [index, part] of parts.entries()) {
    const address = new URL(`/v1/downloads/parts/${index}`, params.edge);
    for (const [key, value] of Object.entries({ name, version: String(version), digest }))
      address.searchParams.set(key, value);
    const came = await fetchPart(address, part, params, (count) => onBytes(at + count));
    if (at + came.length > bytes) break;
    all.set(came, at);
    at += came.length;
  }
  if ((await sha256(all)) === digest) return all;
  const message = `The sha256 of '${name}' is not ${digest}; the download was discarded.`;
  throw new GraftError({ code: 'adapter_damaged', message });
}

async function fetchPart(
  address: URL,
  part: Member['parts'][number],
  params: Asking,
  onBytes: (came: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return await fetchBytes({
      request: () => fetch(address, { headers: headers(params), cache: 'no-store', signal: params.signal }),
      bytes: part.bytes,
      check: async (bytes) => (await sha256(bytes)) === part.sha256,
      onBytes,
      failed: (reason) => ({
        code: reason.includes('sha256') ? 'adapter_damaged' : 'edge_unreachable',
        message: `A part of '${params.name}' cannot be downloaded: ${reason}.`,
      }),
      signal: params.signal,
    });
  } catch (error) {
    throw error instanceof Refused ? new GraftError(await refusalOf(error.response)) : error;
  }
}
