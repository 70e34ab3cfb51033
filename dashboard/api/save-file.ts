import { sha256Hex } from '../../protocol/identity.ts';
import { err, ok, type Result } from '../../protocol/api-error.ts';
import type { Problem } from '../model/problem.ts';
import type { Client } from './client.ts';

/** Makes the browser save a text as a file. Its address belongs to this page and ends with the call. */
export function saveText(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = Object.assign(document.createElement('a'), { href: url, download: name });
  link.click();
  // By then the browser has started reading.
  setTimeout(() => URL.revokeObjectURL(url), 1_000);
}

/**
 * Downloads a version's own file in parts, verifies its digest and gives it to the browser to save.
 * @returns the file's name.
 */
export async function downloadVersion(
  client: Client,
  name: string,
  version: number,
): Promise<Result<string, Problem>> {
  const view = await client.call('GET /admin/downloads', { query: { name, version: String(version) } });
  if (!view.ok) return view;
  const { digest, chain } = view.value;
  // The last one of its chain is the version itself, which belongs to the owner.
  const parts = chain.at(-1)?.file?.parts ?? [];
  const found: ArrayBuffer[] = [];
  for (const index of parts.keys()) {
    const query = { name, version: String(version), digest };
    const part = await client.bytes('GET /admin/downloads/parts/:index', {
      params: { index: String(index) },
      query,
    });
    if (!part.ok) return part;
    found.push(part.value);
  }
  const file = new Blob(found, { type: 'application/octet-stream' });
  if ((await sha256Hex(new Uint8Array(await file.arrayBuffer()))) !== digest) return err(damaged(name));
  const called = `${name.replaceAll('/', '-')}-${version}.safetensors`;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(file);
  link.download = called;
  link.click();
  URL.revokeObjectURL(link.href);
  return ok(called);
}

const damaged = (name: string): Problem => ({
  status: 200,
  code: 'damaged',
  message: `The downloaded bytes are not the file of ${name}.`,
  advice: 'Try again. `graft repair` shows whether the edge has lost a part of it.',
  param: null,
});
