/** Reads `multipart/form-data` (RFC 7578) as it arrives, in bounded memory. No I/O. */
import { MAX_FORM_HEAD_BYTES, MAX_FORM_PARTS } from './limits.ts';

export interface FormPart {
  name: string;
  /** null = it is no file. */
  filename: string | null;
}

/** The text is not a form. */
export class MalformedForm extends Error {
  override readonly name = 'MalformedForm';
}

const CR = 13;
const LF = 10;
const DASH = 45;
/** As RFC 2046 allows it: what could not be told from the text around it is refused. */
const BOUNDARY =
  /^multipart\/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70})(?=[\s;]|$))/i;
const PARAMETER = /;\s*([a-z*]{1,16})=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))/gi;

/** @returns null if it is no form. */
export function formBoundary(contentType: string | null): string | null {
  const match = BOUNDARY.exec(contentType ?? '');
  return match?.[1] ?? match?.[2] ?? null;
}

export interface FormReader {
  /** @throws MalformedForm, and what the listener throws. */
  push(chunk: Uint8Array<ArrayBuffer>): Promise<void>;
  /** The last part has ended. */
  readonly ended: boolean;
}

/** @param listener `data` gets the bytes of the latest part in pieces, which it must not keep. */
export function createFormReader(
  boundary: string,
  listener: {
    part: (part: FormPart) => void;
    data: (bytes: Uint8Array<ArrayBuffer>) => Promise<void> | void;
  },
): FormReader {
  const delimiter = new TextEncoder().encode(`\r\n--${boundary}`);
  const headEnd = new TextEncoder().encode('\r\n\r\n');
  /** The first delimiter may stand at the very beginning. */
  let held: Uint8Array<ArrayBuffer> = new Uint8Array([CR, LF]);
  let state: 'preamble' | 'delimited' | 'head' | 'content' | 'ended' = 'preamble';
  let parts = 0;

  /** @returns where `bytes` is read on; null = more is needed, and what is left from `from` on is held. */
  async function step(bytes: Uint8Array<ArrayBuffer>, from: number): Promise<number | null> {
    switch (state) {
      case 'ended':
        return bytes.length;
      case 'delimited': {
        if (bytes.length - from < 2) return null;
        const [first, second] = [bytes[from], bytes[from + 1]];
        if (first === DASH && second === DASH) state = 'ended';
        else if (first === CR && second === LF) state = 'head';
        else throw new MalformedForm('a boundary is followed by other text');
        return from + 2;
      }
      case 'head': {
        const end = indexOf(bytes, headEnd, from);
        if ((end < 0 ? bytes.length : end) - from > MAX_FORM_HEAD_BYTES)
          throw new MalformedForm('the head of a part is too long');
        if (end < 0) return null;
        parts += 1;
        if (parts > MAX_FORM_PARTS) throw new MalformedForm('it has too many parts');
        listener.part(parseHead(new TextDecoder().decode(bytes.subarray(from, end))));
        state = 'content';
        return end + headEnd.length;
      }
      case 'preamble':
      case 'content': {
        const end = indexOf(bytes, delimiter, from);
        // The end of what is there may be the beginning of a delimiter.
        const until = end < 0 ? Math.max(from, bytes.length - delimiter.length + 1) : end;
        if (state === 'content' && until > from) await listener.data(bytes.subarray(from, until));
        if (end < 0) {
          held = bytes.slice(until);
          return null;
        }
        state = 'delimited';
        return end + delimiter.length;
      }
    }
  }

  return {
    get ended() {
      return state === 'ended';
    },
    async push(chunk) {
      const bytes = new Uint8Array(held.length + chunk.length);
      bytes.set(held);
      bytes.set(chunk, held.length);
      held = NOTHING;
      for (let at = 0; at < bytes.length;) {
        const next = await step(bytes, at);
        if (next === null) {
          if (state === 'delimited' || state === 'head') held = bytes.slice(at);
          return;
        }
        at = next;
      }
    },
  };
}

const NOTHING = new Uint8Array(0);

/** @param what begins with CR. A comparison ends at the next CR of a boundary's text, so the search is linear. */
function indexOf(bytes: Uint8Array, what: Uint8Array, from: number): number {
  for (let at = bytes.indexOf(CR, from); at >= 0; at = bytes.indexOf(CR, at + 1)) {
    if (at + what.length > bytes.length) return -1;
    let same = 1;
    while (same < what.length && bytes[at + same] === what[same]) same += 1;
    if (same === what.length) return at;
  }
  return -1;
}

function parseHead(text: string): FormPart {
  for (const line of text.split('\r\n')) {
    const header = /^content-disposition\s*:\s*form-data\b(.*)$/i.exec(line);
    if (header === null) continue;
    const values = new Map<string, string>();
    for (const [, name = '', quoted, bare] of (header[1] ?? '').matchAll(PARAMETER))
      values.set(name.toLowerCase(), unescaped(quoted ?? bare ?? ''));
    const name = values.get('name');
    if (name === undefined) throw new MalformedForm('a part has no name');
    return { name, filename: values.get('filename') ?? null };
  }
  throw new MalformedForm('a part has no content-disposition');
}

/** Clients write a quote as `%22`, as HTML says it, or with a backslash. */
const unescaped = (text: string): string => text.replaceAll(/\\(.)/g, '$1').replaceAll('%22', '"');
