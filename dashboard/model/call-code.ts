/** A chat completion as source code, as docs/guides/clients.md has it. */

export const LANGUAGES = [
  'curl',
  'OpenAI Python',
  'OpenAI JS',
  'LangChain',
  'LlamaIndex',
  'AI SDK',
  'LiteLLM',
] as const;
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
  const { model, messages, ...parameters } = body;
  const address = `${url}/v1`;
  switch (language) {
    case 'curl':
      return curl(`${address}/chat/completions`, body);
    case 'OpenAI Python':
      return [
        'import os',
        'from openai import OpenAI',
        '',
        `client = OpenAI(base_url="${address}", api_key=os.environ["GRAFT_KEY"])`,
        'answer = client.chat.completions.create(',
        ...pythonLines(body),
        ')',
        'print(answer.choices[0].message.content)',
      ].join('\n');
    case 'OpenAI JS':
      return [
        "import OpenAI from 'openai';",
        '',
        `const client = new OpenAI({ baseURL: '${address}', apiKey: process.env.GRAFT_KEY });`,
        'const answer = await client.chat.completions.create({',
        ...scriptLines(body),
        '});',
        'console.log(answer.choices[0]?.message.content);',
      ].join('\n');
    case 'LangChain':
      return [
        'import os',
        'from langchain_openai import ChatOpenAI',
        '',
        'llm = ChatOpenAI(',
        ...pythonLines({ model }),
        `    base_url="${address}",`,
        '    api_key=os.environ["GRAFT_KEY"],',
        ...pythonLines(parameters),
        ')',
        `answer = llm.invoke(${written(messages, PYTHON, '')})`,
        'print(answer.content)',
      ].join('\n');
    case 'LlamaIndex':
      return [
        'import os',
        'from llama_index.core.llms import ChatMessage',
        'from llama_index.llms.openai_like import OpenAILike',
        '',
        'llm = OpenAILike(',
        ...pythonLines({ model }),
        `    api_base="${address}",`,
        '    api_key=os.environ["GRAFT_KEY"],',
        '    is_chat_model=True,',
        '    is_function_calling_model=True,',
        ...pythonLines(forLlamaIndex(parameters)),
        ')',
        'answer = llm.chat([',
        ...messages.map(
          ({ role, content }) =>
            `    ChatMessage(role=${PYTHON.text(role)}, content=${PYTHON.text(content)}),`,
        ),
        '])',
        'print(answer.message.content)',
      ].join('\n');
    case 'AI SDK':
      return [
        "import { createOpenAICompatible } from '@ai-sdk/openai-compatible';",
        "import { generateText } from 'ai';",
        '',
        'const graft = createOpenAICompatible({',
        "  name: 'graft',",
        `  baseURL: '${address}',`,
        '  apiKey: process.env.GRAFT_KEY,',
        '});',
        'const { text } = await generateText({',
        `  model: graft(${SCRIPT.text(model)}),`,
        ...scriptLines(forAiSdk(messages, parameters)),
        '});',
        'console.log(text);',
      ].join('\n');
    case 'LiteLLM':
      return [
        'import os',
        'import litellm',
        '',
        'answer = litellm.completion(',
        ...pythonLines({ model: `openai/${model}` }),
        `    api_base="${address}",`,
        '    api_key=os.environ["GRAFT_KEY"],',
        ...pythonLines({ messages, ...parameters }),
        ')',
        'print(answer.choices[0].message.content)',
      ].join('\n');
  }
}

type Fields = Readonly<Record<string, unknown>>;

/** A request to a classification head, for the shell: one of a single class sorts documents. @param url of the edge. */
export const classifyCode = (url: string, model: string, classes: number): string =>
  classes === 1
    ? curl(`${url}/v1/rerank`, { model, query: 'Hello', documents: ['Good day', 'Goodbye'] })
    : curl(`${url}/v1/classify`, { model, input: 'Hello' });

const curl = (address: string, body: Fields): string =>
  [
    `curl ${address} \\`,
    `  -H "authorization: Bearer $GRAFT_KEY" \\`,
    `  -H 'content-type: application/json' \\`,
    `  -d '${quoted(`{\n${lines(body, JSON_STYLE, '    ').join(',\n')}\n  }`)}'`,
  ].join('\n');

/** Its class has fields for these two only. */
function forLlamaIndex({ temperature, max_tokens, ...others }: Fields): Fields {
  return {
    ...(temperature === undefined ? {} : { temperature }),
    ...(max_tokens === undefined ? {} : { max_tokens }),
    ...(Object.keys(others).length === 0 ? {} : { additional_kwargs: others }),
  };
}

const AI_SDK_NAMES: Readonly<Record<string, string>> = {
  max_tokens: 'maxOutputTokens',
  top_p: 'topP',
  stop: 'stopSequences',
};

/** It takes the system message apart from the conversation. */
function forAiSdk(messages: ChatBody['messages'], parameters: Fields): Fields {
  const [first, ...rest] = messages;
  const system = first?.role === 'system' ? { system: first.content, messages: rest } : { messages };
  const named = Object.entries(parameters).map(([name, value]) => [AI_SDK_NAMES[name] ?? name, value]);
  return { ...system, ...(Object.fromEntries(named) as Fields) };
}

/** How a language writes values; lists have one entry per line, so that a conversation is readable. */
interface Style {
  readonly indent: string;
  readonly text: (value: string) => string;
  readonly key: (name: string) => string;
  /** Around the entries of an object. */
  readonly gap: string;
  /** After the last entry of a list. */
  readonly last: string;
}

const JSON_STYLE: Style = {
  ...{ indent: '  ', gap: ' ', last: '', text: (value) => JSON.stringify(value) },
  key: (name) => `"${name}": `,
};
const PYTHON: Style = { ...JSON_STYLE, indent: '    ', gap: '', last: ',' };
const SCRIPT: Style = {
  ...{ indent: '  ', gap: ' ', last: ',', key: (name) => `${name}: ` },
  text: (value) => `'${JSON.stringify(value).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`,
};

const lines = (fields: Fields, style: Style, indent: string, key = style.key): string[] =>
  Object.entries(fields).map(([name, value]) => `${indent}${key(name)}${written(value, style, indent)}`);

const pythonLines = (fields: Fields): string[] =>
  lines(fields, PYTHON, PYTHON.indent, (name) => `${name}=`).map((line) => `${line},`);

const scriptLines = (fields: Fields): string[] =>
  lines(fields, SCRIPT, SCRIPT.indent).map((line) => `${line},`);

function written(value: unknown, style: Style, indent: string): string {
  if (!Array.isArray(value)) return spaced(value, style);
  if (value.length === 0) return '[]';
  const entries = value.map((one) => `${indent}${style.indent}${spaced(one, style)}`);
  return `[\n${entries.join(',\n')}${style.last}\n${indent}]`;
}

/** On one line. */
function spaced(value: unknown, style: Style): string {
  if (typeof value === 'string') return style.text(value);
  if (Array.isArray(value)) return `[${value.map((one) => spaced(one, style)).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).map(([name, one]) => `${style.key(name)}${spaced(one, style)}`);
  return `{${style.gap}${entries.join(', ')}${style.gap}}`;
}

/** Quotes for a shell: at a single quote the word ends, an escaped quote follows, and the word continues. */
const quoted = (text: string): string => text.replaceAll("'", `'\\''`);
