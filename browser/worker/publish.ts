/** Publishes an adapter that was trained here: its file and its card, and nothing else. */
import { type BlobRecord, blobRecordOf, splitParts } from '../../protocol/adapter-manifest.ts';
import {
  Publication,
  type PublicationRequest,
  PUBLISH_PART_BYTES,
} from '../../protocol/browser-publications.ts';
import type { TrainingCard } from '../../protocol/training.ts';
import { GraftError, type Published, type PublishProgress } from '../messages.ts';
import { refusalOf } from './edge-refusal.ts';

/** Tries of one request, the pause before another, and the longest that an edge can ask for, ms. */
const TRIES = 4;
const PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 15_000;

interface PublishParams {
  edge: string;
  /** A publish token. */
  token: string;
  /** Must be the token's; null = whatever it is. */
  name: string | null;
  digest: string;
  file: Uint8Array<ArrayBuffer>;
  card: TrainingCard;
  onProgress: (progress: PublishProgress) => void;
  signal: AbortSignal;
}

/** Repeating it changes nothing. @throws GraftError, or the signal's reason. */
export async function publishFile(params: PublishParams): Promise<Published> {
  const parts = splitParts(params.file, PUBLISH_PART_BYTES);
  const record = await blobRecordOf(parts);
  try {
    await sendParts(params, parts, record);
  } catch (error) {
    if (!(error instanceof GraftError) || error.code !== 'publish_token_spent') throw error;
    // The answer of an earlier call may have been lost: the edge knows the version of this very file.
    return await makeVersion(params, record).catch(() => {
      params.signal.throwIfAborted();
      throw error;
    });
  }
  return makeVersion(params, record);
}

async function sendParts(
  params: PublishParams,
  parts: readonly Uint8Array<ArrayBuffer>[],
  record: BlobRecord,
): Promise<void> {
  const { edge, digest, file, onProgress } = params;
  let done = 0;
  onProgress({ stage: 'publish', done, total: file.length });
  for (const [index, part] of parts.entries()) {
    const address = new URL(`/v1/publications/parts/${index}`, edge);
    address.searchParams.set('digest', digest);
    address.searchParams.set('sha256', record.parts[index]!.sha256);
    await send(params, address, { method: 'PUT', body: part, type: 'application/octet-stream' });
    done += part.length;
    onProgress({ stage: 'publish', done, total: file.length });
  }
}

async function makeVersion(params: PublishParams, record: BlobRecord): Promise<Published> {
  const { edge, name, digest, card } = params;
  const body: PublicationRequest = {
    ...(name === null ? {} : { name }),
    digest,
    file: record,
    training: card,
  };
  const answer = await send(params, new URL('/v1/publications', edge), {
    method: 'POST',
    body: JSON.stringify(body),
    type: 'application/json',
  });
  const parsed = Publication.safeParse(await answer.json().catch(() => null));
  if (parsed.success) {
    const { name: published, version, live } = parsed.data;
    return { name: published, version, live };
  }
  const message = `This version of graft cannot read the answer of ${edge}.`;
  throw new GraftError({ code: 'edge_unreachable', message });
}

/** Repeated when the edge cannot be reached, or asks for patience. @throws GraftError, or the signal's reason. */
async function send(
  { edge, token, signal }: PublishParams,
  address: URL,
  { method, body, type }: { method: string; body: string | Uint8Array<ArrayBuffer>; type: string },
): Promise<Response> {
  const headers = { authorization: `Bearer ${token}`, 'content-type': type };
  for (let tries = 1; ; tries += 1) {
    let answer: Response | null = null;
    try {
      answer = await fetch(address, { method, headers, body, cache: 'no-store', signal });
    } catch (error) {
      signal.throwIfAborted();
      if (tries < TRIES) {
        await pause(PAUSE_MS * tries, signal);
        continue;
      }
      const reason = error instanceof Error ? error.message : String(error);
      const message =
        `${edge} cannot be reached (${reason}). If this page has another origin, the edge must allow it ` +
        '(CORS_ORIGINS). The adapter stays in this browser; publish it again.';
      throw new GraftError({ code: 'edge_unreachable', message });
    }
    if (answer.ok) return answer;
    const isBusy = answer.status === 429 || answer.status >= 500;
    if (!isBusy || tries >= TRIES) throw new GraftError(await refusalOf(answer));
    const asked = Number(answer.headers.get('retry-after-ms') ?? Number.NaN);
    await pause(Number.isFinite(asked) ? asked : PAUSE_MS * tries, signal);
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  await new Promise<void>((resolve) => {
    const end = setTimeout(resolve, Math.min(Math.max(ms, 0), LONGEST_PAUSE_MS));
    signal.addEventListener('abort', () => (clearTimeout(end), resolve()), { once: true });
  });
  signal.throwIfAborted();
}
