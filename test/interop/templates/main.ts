/** `npm run interop -- templates [folder]`: chat templates as transformers renders them and as graft does. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { z } from 'zod';
import {
  ChatTemplateError,
  createChatTemplate,
  type TemplateMessage,
  type TemplateTool,
  toolsOfTemplate,
} from '../../../gpu-origin/model/chat-template.ts';
import { type Tokenizer, finish } from '../../../gpu-origin/model/tokenizer.ts';
import { MADE_CONVERSATIONS, madeConversations } from '../made-conversations.ts';
import { findPeers } from '../peers.ts';

const own = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

const Call = z.object({ id: z.string(), function: z.object({ name: z.string(), arguments: z.unknown() }) });
const Conversation = z.object({
  name: z.string(),
  tools: z.array(z.custom<TemplateTool>()).default([]),
  messages: z.array(
    z.object({
      role: z.string(),
      content: z.string(),
      tool_calls: z.array(Call).optional(),
      tool_call_id: z.string().optional(),
      name: z.string().optional(),
    }),
  ),
});
type Conversation = z.infer<typeof Conversation>;
const Line = z.object({
  template: z.string(),
  conversation: z.string(),
  text: z.string().optional(),
  refusal: z.string().optional(),
});

const CONTROL = new Map([
  ['<BOS>', -1],
  ['<EOS>', -2],
]);

/** Its tokens are characters, so that what was rendered can be read. */
const characters = (chatTemplate: string): Tokenizer => {
  const encode = (text: string): number[] => [...text].map((character) => character.codePointAt(0)!);
  return {
    encode,
    *encodeChunked(text) {
      yield;
      return encode(text);
    },
    *encodePieces(pieces) {
      yield;
      return pieces.flatMap((piece) => (typeof piece === 'number' ? [piece] : encode(piece)));
    },
    tokenBytes: () => null,
    isSpecial: (id) => id < 0,
    controlTokens: CONTROL,
    ...{ bosId: -1, eosIds: [-2], prefixIds: [], chatTemplate, size: 0x110000 },
  };
};

const textOf = (ids: readonly number[]): string =>
  ids
    .map((id) => [...CONTROL].find(([, control]) => control === id)?.[0] ?? String.fromCodePoint(id))
    .join('');

const messageOf = (message: Conversation['messages'][number]): TemplateMessage => ({
  role: message.role,
  content: message.content,
  ...(message.tool_calls === undefined
    ? {}
    : {
        calls: message.tool_calls.map((call) => ({
          id: call.id,
          name: call.function.name,
          arguments: call.function.arguments,
        })),
      }),
  ...(message.tool_call_id === undefined ? {} : { callId: message.tool_call_id }),
  ...(message.name === undefined ? {} : { name: message.name }),
});

function render(source: string, { messages, tools }: Conversation): { text: string } | { refusal: string } {
  try {
    const template = createChatTemplate(characters(source));
    const ids = finish(template!.encodeChunked(messages.map(messageOf), Infinity, { tools }));
    return { text: textOf(ids ?? []) };
  } catch (error) {
    if (error instanceof ChatTemplateError) return { refusal: error.message };
    throw error;
  }
}

/** Where two texts part, in a few words. */
function difference(want: string, got: string): string {
  let at = 0;
  while (at < want.length && want[at] === got[at]) at += 1;
  const show = (text: string) => JSON.stringify(text.slice(Math.max(0, at - 20), at + 40));
  return `at ${at}: ${show(want)} against ${show(got)}`;
}

/** A line for each template and conversation. */
function renderThere(python: string, folder: string, conversations: string): z.infer<typeof Line>[] {
  const script = [own('render.py'), folder, conversations];
  const ran = spawnSync(python, script, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (ran.status !== 0) throw new Error(ran.stderr);
  return ran.stdout
    .trim()
    .split('\n')
    .map((text) => Line.parse(JSON.parse(text)));
}

/** Llama 2's, Mistral 7B's and Gemma 3's templates with many conversations. @returns how many came out otherwise. */
function comparePlain(python: string): number {
  const made = madeConversations().map((messages, at) => ({ name: String(at), tools: [], messages }));
  const folder = mkdtempSync(path.join(tmpdir(), 'graft-templates-'));
  const file = path.join(folder, 'conversations.json');
  writeFileSync(file, JSON.stringify(made));
  const counts = new Map<string, { equal: number; refused: number; other: number }>();
  for (const line of renderThere(python, own('plain'), file)) {
    const source = readFileSync(path.join(own('plain'), `${line.template}.jinja`), 'utf8');
    const told = render(source, made[Number(line.conversation)]!);
    const count = counts.get(line.template) ?? { equal: 0, refused: 0, other: 0 };
    counts.set(line.template, count);
    if ('refusal' in told && line.text === undefined) count.refused += 1;
    else if ('text' in told && told.text === line.text) count.equal += 1;
    else {
      count.other += 1;
      console.log(`${line.template}, ${JSON.stringify(made[Number(line.conversation)]!.messages)}`);
      console.log('text' in told ? difference(line.text ?? '', told.text) : told.refusal);
    }
  }
  rmSync(folder, { recursive: true, force: true });
  for (const [template, { equal, refused, other }] of counts)
    console.log(
      `${template}: of ${MADE_CONVERSATIONS} conversations ${equal} equal, ${refused} refused by both, ${other} otherwise`,
    );
  return [...counts.values()].reduce((sum, { other }) => sum + other, 0);
}

export function runTemplates([given]: readonly string[]): number {
  const peers = findPeers(process.env);
  const folder =
    given ?? (peers.llamaSource === null ? null : path.join(peers.llamaSource, 'models/templates'));
  const otherwise = peers.python === null ? 0 : comparePlain(peers.python);
  if (peers.python === null || folder === null) {
    console.log('skipped: for want of Python with jinja2, or of llama.cpp’s models/templates');
    return otherwise === 0 ? 0 : 1;
  }
  const conversations = z
    .array(Conversation)
    .parse(JSON.parse(readFileSync(own('conversations.json'), 'utf8')));
  const rows = new Map<string, Record<string, string>>();
  const trouble: string[] = [];
  for (const line of renderThere(peers.python, folder, own('conversations.json'))) {
    const source = readFileSync(path.join(folder, `${line.template}.jinja`), 'utf8');
    const conversation = conversations.find(({ name }) => name === line.conversation)!;
    const knows = toolsOfTemplate(source);
    const row = rows.get(line.template) ?? { 'calls as': knows.native ? knows.format : 'hermes, ours' };
    rows.set(line.template, row);
    const told = render(source, conversation);
    const place = `${line.template}, ${line.conversation}`;
    // What a template does not know is written by us: there is nothing to compare it with.
    const compares = conversation.tools.length === 0 || knows.native;
    if ('refusal' in told) {
      row[line.conversation] = line.refusal === undefined ? 'REFUSED' : 'refused by both';
      if (line.refusal === undefined) trouble.push(`${place}: ${told.refusal}`);
    } else if (!compares) row[line.conversation] = 'written';
    else if (line.text === told.text) row[line.conversation] = 'equal';
    else if (line.text === undefined) {
      row[line.conversation] = 'TAKEN';
      trouble.push(`${place}: refused there: ${line.refusal}`);
    } else {
      row[line.conversation] = 'OTHER';
      trouble.push(`${place}: ${difference(line.text, told.text)}`);
    }
  }
  const columns = ['calls as', ...conversations.map(({ name }) => name)];
  const table = new Table({ head: ['template', ...columns] });
  for (const [name, row] of rows) table.push([name, ...columns.map((column) => row[column] ?? '')]);
  console.log(table.toString());
  for (const line of trouble) console.log(line);
  return trouble.length + otherwise === 0 ? 0 : 1;
}
