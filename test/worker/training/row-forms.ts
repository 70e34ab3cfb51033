/** Bodies of `POST /v1/files`. */

const BOUNDARY = '----graft-test';

/** @param parts with a file name, those that are files. @returns of a request: its body and type. */
export function formOf(parts: readonly { name: string; filename?: string; text: string }[]): {
  method: 'POST';
  headers: Record<string, string>;
  body: Uint8Array<ArrayBuffer>;
} {
  const text = parts
    .map(({ name, filename, text: content }) => {
      const file = filename === undefined ? '' : `; filename="${filename}"`;
      return `--${BOUNDARY}\r\nContent-Disposition: form-data; name="${name}"${file}\r\n\r\n${content}\r\n`;
    })
    .join('');
  return {
    method: 'POST',
    headers: { 'content-type': `multipart/form-data; boundary=${BOUNDARY}` },
    body: new TextEncoder().encode(`${text}--${BOUNDARY}--\r\n`),
  };
}

/** @returns lines of JSON, together this long. */
export function rowsOfBytes(bytes: number): string {
  const line = `${JSON.stringify({ prompt: 'x'.repeat(1_000) })}\n`;
  return line.repeat(Math.ceil(bytes / line.length)).slice(0, bytes);
}

/** A form with one file of these rows. */
export const rowsForm = (text: string): ReturnType<typeof formOf> =>
  formOf([
    { name: 'file', filename: 'rows.jsonl', text },
    { name: 'purpose', text: 'fine-tune' },
  ]);
