/** A chat completion as source code. */

export const LANGUAGES = ['curl', 'Python', 'TypeScript'] as const;
export type Language = (typeof LANGUAGES)[number];

export interface ChatBody {
  readonly model: string;
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly [parameter: string]: unknown;
}

/**
 * @param url of the edge, without a path. The code reads the key from the environment.
 * @param body of values that JSON has, but for null and booleans, which Python writes otherwise.
 */
export function callCode(language: Language, url: string, body: ChatBody): string {
  const pairs = Object.entries(body);
  switch (language) {
    case 'curl':
      return [
        `curl ${url}/v1/chat/completions \\`,
        `  -H "authorization: Bearer $GRAFT_KEY" \\`,
        `  -H 'content-type: application/json' \\`,
        `  -d '${quoted(`{\n${pairs.map(([name, value]) => `    "${name}": ${written(value, '    ')}`).join(',\n')}\n  }`)}'`,
      ].join('\n');
    case 'Python':
      return [
        'import os',
        'from openai import OpenAI',
        '',
        `client = OpenAI(base_url="${url}/v1", api_key=os.environ["GRAFT_KEY"])`,
        'answer = client.chat.completions.create(',
        ...pairs.map(([name, value]) => `    ${name}=${written(value, '    ')},`),
        ')',
        'print(answer.choices[0].message.content)',
      ].join('\n');
    case 'TypeScript':
      return [
        "import OpenAI from 'openai';",
        '',
        `const client = new OpenAI({ baseURL: '${url}/v1', apiKey: process.env.GRAFT_KEY });`,
        'const answer = await client.chat.completions.create({',
        ...pairs.map(([name, value]) => `  ${name}: ${written(value, '  ')},`),
        '});',
        'console.log(answer.choices[0]?.message.content);',
      ].join('\n');
  }
}

/** Lists have one entry per line, so that a conversation is readable. */
const written = (value: unknown, indent: string): string =>
  Array.isArray(value)
    ? `[\n${value.map((one) => `${indent}  ${spaced(one)}`).join(',\n')}\n${indent}]`
    : JSON.stringify(value);

/** A message on one line; its strings are JSON, which Python and TypeScript both accept. */
const spaced = (one: unknown): string =>
  typeof one === 'object' && one !== null
    ? `{ ${Object.entries(one)
        .map(([name, value]) => `"${name}": ${JSON.stringify(value)}`)
        .join(', ')} }`
    : JSON.stringify(one);

/** Quotes for a shell: at a single quote the word ends, an escaped quote follows, and the word continues. */
const quoted = (text: string): string => text.replaceAll("'", `'\\''`);
