/** A chat completion as code that sends it. */

export const LANGUAGES = ['curl', 'Python', 'TypeScript'] as const;
export type Language = (typeof LANGUAGES)[number];

export interface ChatBody {
  readonly model: string;
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly [parameter: string]: unknown;
}

/**
 * @param url of the edge, without a path. The key is read from the environment, and is in no code.
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

/** Lists a line an entry, so that a conversation can be read. */
const written = (value: unknown, indent: string): string =>
  Array.isArray(value)
    ? `[\n${value.map((one) => `${indent}  ${spaced(one)}`).join(',\n')}\n${indent}]`
    : JSON.stringify(value);

/** A message in one line; its texts are as JSON has them, which Python and TypeScript read alike. */
const spaced = (one: unknown): string =>
  typeof one === 'object' && one !== null
    ? `{ ${Object.entries(one)
        .map(([name, value]) => `"${name}": ${JSON.stringify(value)}`)
        .join(', ')} }`
    : JSON.stringify(one);

/** In single quotes of a shell: at a quote the word ends, a quoted quote follows, and the word goes on. */
const quoted = (text: string): string => text.replaceAll("'", `'\\''`);
