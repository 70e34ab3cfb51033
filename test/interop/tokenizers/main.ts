/**
 * `npm run interop -- tokenizers [folder | vocabulary.gguf …]`: real vocabularies against transformers and llama.cpp, as
 * the column "texts" of bench/LOG.md. README.md says what must lie where.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import Table from 'cli-table3';
import { ChatTemplateError, createChatTemplate } from '../../../gpu-origin/model/chat-template.ts';
import { readGguf } from '../../../gpu-origin/model/gguf.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { finish, type Tokenizer } from '../../../gpu-origin/model/tokenizer.ts';
import { type MadeMessage, madeConversations } from '../made-conversations.ts';
import { findPeers } from '../peers.ts';
import { asGguf, encodeByHuggingFace, fetchPackages } from './hugging-face.ts';
import { buildEncoder, encodeByLlamaCpp, vocabulariesOf } from './llama-cpp.ts';
import { madeTexts } from './texts.ts';
import { TokenizerError } from '../../../gpu-origin/model/tokenizer-definition.ts';
import type { Truth } from './truth.ts';

/**
 * Of so many texts one may be otherwise: unassigned and later characters are among them, and the originals' tables of
 * Unicode are older than JavaScript's (U+08CE, a combining mark of Unicode 14, is ordered by one and not by the other).
 */
const MAX_OTHERWISE = 1;

const equal = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((id, at) => id === b[at]);

const shown = (tokenizer: Tokenizer, ids: readonly number[]): string =>
  ids.map((id) => `${id}${JSON.stringify(Buffer.from(tokenizer.tokenBytes(id) ?? []).toString())}`).join(' ');

/** @returns how many texts came out otherwise; the first three are shown. */
function compareTexts(
  tokenizer: Tokenizer,
  texts: readonly string[],
  expected: readonly (readonly number[])[],
): number {
  let other = 0;
  for (const [at, text] of texts.entries()) {
    const got = tokenizer.encode(text, { allowSpecial: false });
    if (equal(got, expected[at]!)) continue;
    other += 1;
    if (other <= 3)
      console.log(
        `${JSON.stringify(text)}\n  there ${shown(tokenizer, expected[at]!)}\n  here  ${shown(tokenizer, got)}`,
      );
  }
  return other;
}

function converse(tokenizer: Tokenizer, messages: readonly MadeMessage[]): number[] | null {
  try {
    return finish(createChatTemplate(tokenizer)!.encodeChunked([...messages], Infinity, { tools: [] }));
  } catch (error) {
    if (error instanceof ChatTemplateError) return null;
    throw error;
  }
}

function compareConversations(
  tokenizer: Tokenizer,
  conversations: readonly (readonly MadeMessage[])[],
  expected: Truth['conversations'],
): { equal: number; refused: number; other: number } {
  const counts = { equal: 0, refused: 0, other: 0 };
  for (const [at, { ids }] of expected.entries()) {
    const got = converse(tokenizer, conversations[at]!);
    if (got === null && ids === undefined) counts.refused += 1;
    else if (got !== null && ids !== undefined && equal(got, ids)) counts.equal += 1;
    else {
      counts.other += 1;
      if (counts.other <= 2)
        console.log(
          `${JSON.stringify(conversations[at])}\n  there ${ids === undefined ? 'refused' : shown(tokenizer, ids)}\n  here  ${got === null ? 'refused' : shown(tokenizer, got)}`,
        );
    }
  }
  return counts;
}

const withoutWideBlanks = (messages: readonly MadeMessage[]): MadeMessage[] =>
  messages.map(({ role, content }) => ({ role, content: content.replace(/[\u3000\x85]/g, ' ') }));

/** @returns the exit code. */
export function runTokenizers(given: readonly string[]): number {
  const { python, llamaSource, folder: peers } = findPeers(process.env);
  if (python === null || llamaSource === null) {
    console.log('skipped: for want of Python with transformers, or of llama.cpp (README.md)');
    return 0;
  }
  const conversations = madeConversations();
  const whole = { texts: madeTexts(), conversations };
  const scratch = mkdtempSync(path.join(tmpdir(), 'graft-tokenizers-'));
  const encoder = buildEncoder(llamaSource, scratch);
  const table = new Table({
    head: [
      'vocabulary',
      `of ${whole.texts.length} texts`,
      `of ${conversations.length} conversations`,
      'truth',
    ],
  });
  let failed = false;
  const all =
    given.length > 0
      ? given
      : [...fetchPackages(path.join(peers, 'tokenizers')), ...vocabulariesOf(llamaSource)];
  for (const place of all) {
    const name = path.basename(place);
    const isFile = place.endsWith('.gguf');
    // llama.cpp strips blanks behind control tokens by bytes, and finds half of U+3000 or U+0085 to be one.
    const cases = isFile ? { ...whole, conversations: conversations.map(withoutWideBlanks) } : whole;
    const metadata = isFile ? readGguf(place).metadata : null;
    let tokenizer;
    try {
      tokenizer = loadTokenizer(
        metadata === null ? { kind: 'folder', path: place } : { kind: 'gguf', metadata },
      );
    } catch (error) {
      if (!(error instanceof TokenizerError)) throw error;
      table.push([name, { content: `refused: ${error.message}`, colSpan: 3 }]);
      continue;
    }
    console.log(`${name}:`);
    const truth = isFile
      ? encodeByLlamaCpp({ encoder, python, scratch, file: place, tokenizer, cases })
      : encodeByHuggingFace(python, scratch, place, cases);
    const other = compareTexts(tokenizer, cases.texts, truth.texts);
    const converted = isFile ? null : asGguf(place);
    const inGguf =
      converted === null
        ? null
        : compareTexts(loadTokenizer({ kind: 'gguf', metadata: converted }), cases.texts, truth.texts);
    const counts = compareConversations(tokenizer, cases.conversations, truth.conversations);
    failed ||= other > MAX_OTHERWISE || counts.other > 0 || (inGguf ?? 0) > MAX_OTHERWISE;
    table.push([
      name,
      `${other} otherwise${inGguf === null ? '' : `, in GGUF ${inGguf}`}`,
      truth.conversations.length === 0
        ? 'no template'
        : `${counts.equal} equal, ${counts.refused} refused by both, ${counts.other} otherwise`,
      truth.by,
    ]);
  }
  rmSync(scratch, { recursive: true, force: true });
  console.log(table.toString());
  return failed ? 1 : 0;
}
