/** Vocabularies in GGUF, encoded by llama.cpp; templates in them rendered as transformers does. */
import { readdirSync, rmSync, writeFileSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { readGguf } from '../../../gpu-origin/model/gguf.ts';
import type { Tokenizer } from '../../../gpu-origin/model/tokenizer.ts';
import { buildTool, runTool } from '../llama-tool.ts';
import type { Cases, Truth } from './truth.ts';

const own = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

const Rendered = z.object({ text: z.string().optional() });

/** llama.cpp's own collection, for its tests. */
export function vocabulariesOf(llamaSource: string): string[] {
  const folder = path.join(llamaSource, 'models');
  return readdirSync(folder)
    .filter((name) => /^ggml-vocab-.*\.gguf$/.test(name))
    .map((name) => path.join(folder, name));
}

/** @returns a program that encodes by the library that was built for llama-server. */
export const buildEncoder = (llamaSource: string, scratch: string): string =>
  buildTool(llamaSource, own('encode.c'), path.join(scratch, 'encode'));

export function encodeByLlamaCpp(params: {
  encoder: string;
  python: string;
  scratch: string;
  file: string;
  tokenizer: Tokenizer;
  cases: Cases;
}): Truth {
  const { encoder, file, cases } = params;
  // Qwen's own tokenizer composes characters, llama.cpp does not: it is given composed ones.
  const composes = readGguf(file).metadata.get('tokenizer.ggml.pre') === 'qwen2';
  const given = composes ? cases.texts.map((text) => text.normalize('NFC')) : cases.texts;
  const texts = encodeLines(encoder, file, given.map(hexadecimal));
  const rendered = renderThere(params);
  const lines = rendered.flatMap((text) => (text === undefined ? [] : [`+${hexadecimal(text)}`]));
  const encoded = encodeLines(encoder, file, lines);
  let at = 0;
  const conversations = rendered.map((text) => (text === undefined ? {} : { ids: encoded[at++]! }));
  return { by: 'llama.cpp', texts, conversations };
}

const hexadecimal = (text: string): string => Buffer.from(text).toString('hex');

function encodeLines(encoder: string, file: string, lines: readonly string[]): number[][] {
  if (lines.length === 0) return [];
  const told = runTool(encoder, [file], `${lines.join('\n')}\n`).split('\n');
  return lines.map((_, at) => (told[at] === '' ? [] : told[at]!.split(' ').map(Number)));
}

/** @returns a text for each conversation, undefined where the template refuses. */
function renderThere({
  python,
  scratch,
  tokenizer,
  cases,
}: Parameters<typeof encodeByLlamaCpp>[0]): (string | undefined)[] {
  if (tokenizer.chatTemplate === null) return [];
  const folder = path.join(scratch, 'template');
  mkdirSync(folder);
  writeFileSync(path.join(folder, 'own.jinja'), tokenizer.chatTemplate);
  const conversations = path.join(scratch, 'conversations.json');
  writeFileSync(
    conversations,
    JSON.stringify(cases.conversations.map((messages, at) => ({ name: String(at), messages }))),
  );
  const told = runTool(python, [own('../templates/render.py'), folder, conversations]);
  rmSync(folder, { recursive: true });
  const nameOf = (id: number | null | undefined): string =>
    [...tokenizer.controlTokens].find(([, control]) => control === id)?.[0] ?? '';
  return told
    .trim()
    .split('\n')
    .map((line) => Rendered.parse(JSON.parse(line)).text)
    .map((text) =>
      text?.replaceAll('<BOS>', nameOf(tokenizer.bosId)).replaceAll('<EOS>', nameOf(tokenizer.eosIds[0])),
    );
}
