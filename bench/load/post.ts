import http from 'node:http';

/** Posts a JSON text and reads the answer to its end. @returns what went wrong, in words; null for status 200. */
export const post = (
  agent: http.Agent,
  url: string,
  body: string,
  headers: Record<string, string>,
): Promise<string | null> =>
  new Promise((resolve) => {
    const request = http.request(url, {
      agent,
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'content-length': String(Buffer.byteLength(body)),
        ...headers,
      },
    });
    request.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (piece: string) => (text += piece));
      response.on('end', () =>
        resolve(response.statusCode === 200 ? null : `status ${response.statusCode}: ${text.slice(0, 300)}`),
      );
    });
    request.on('error', (error) => resolve(error.message));
    request.end(body);
  });
