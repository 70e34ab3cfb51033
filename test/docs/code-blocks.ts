/** Commands in the code blocks of README and docs, so that tests can run them. */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export const ROOT = path.join(import.meta.dirname, '../..');

/** Pages whose commands a reader is meant to type. */
export const PAGES: readonly string[] = [
  'README.md',
  'CONTRIBUTING.md',
  ...readdirSync(path.join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md'))
    .map((file) => `docs/${file}`)
    .sort(),
  'examples/ab-test/README.md',
  'examples/in-the-browser/README.md',
];

/**
 * `sh`: every line is a command. `console`: lines behind `$ ` are commands, the others what they print. All else is
 * something to read.
 */
export type Language = 'sh' | 'console';

export interface CommandBlock {
  readonly page: string;
  /** Of the opening fence, from 1. */
  readonly line: number;
  /** In order; comments and lines that continue are part of them. */
  readonly commands: readonly { readonly text: string; readonly prints: string }[];
  /** Why it is not run, `<!-- dry: why -->` above it. Then its commands are only looked up. */
  readonly dry: string | null;
  /** `<!-- stack: own -->` above it: it starts its own servers. */
  readonly ownStack: boolean;
}

export interface CodeBlock {
  readonly page: string;
  readonly line: number;
  readonly language: string;
  readonly body: string;
  /** The HTML comment above it. */
  readonly mark: string | null;
}

export function codeBlocks(page: string, text = readFileSync(path.join(ROOT, page), 'utf8')): CodeBlock[] {
  return [...text.matchAll(/(?:^ *<!-- (.*) -->\n\n)?^( *)```(.*)\n([^]*?)^ *```$/gm)].map((found) => {
    const [, mark = null, indent = '', language = '', body = ''] = found;
    const before = text.slice(0, found.index) + (mark === null ? '' : '\n\n');
    return {
      page,
      line: before.split('\n').length,
      language,
      body: body.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
      mark,
    };
  });
}

export function commandBlocks(page: string): CommandBlock[] {
  return codeBlocks(page)
    .filter(({ language }) => language === 'sh' || language === 'console')
    .map(({ line, language, body, mark }) => ({
      page,
      line,
      commands: language === 'sh' ? commandsOf(body) : sessionOf(body),
      dry: /^dry: (.+)$/.exec(mark ?? '')?.[1] ?? null,
      ownStack: mark === 'stack: own',
    }));
}

/** Whether bash would not wait for another line. It is only asked where there is a doubt. */
const isWhole = (text: string): boolean =>
  !text.endsWith('\\') && (!/['"(]|<</.test(text) || spawnSync('bash', ['-n'], { input: text }).status === 0);

/** A line is added to the command before until bash has a whole one. */
function commandsOf(body: string): { text: string; prints: string }[] {
  const commands: { text: string; prints: string }[] = [];
  let open = '';
  for (const line of body.split('\n')) {
    if (open === '' && (line.trim() === '' || line.startsWith('#'))) continue;
    open += (open === '' ? '' : '\n') + line;
    if (!isWhole(open)) continue;
    commands.push({ text: open, prints: '' });
    open = '';
  }
  if (open !== '') commands.push({ text: open, prints: '' });
  return commands;
}

function sessionOf(body: string): { text: string; prints: string }[] {
  return body
    .split(/^\$ /m)
    .slice(1)
    .map((session) => {
      const lines = session.split('\n');
      let length = 1;
      while (length < lines.length && !isWhole(lines.slice(0, length).join('\n'))) length += 1;
      return { text: lines.slice(0, length).join('\n'), prints: lines.slice(length).join('\n').trim() };
    });
}

/** A folder that is the checkout to commands that run in it, but for what they write. */
export function likeACheckout(): { folder: string; remove: () => void } {
  const work = mkdtempSync(path.join(os.tmpdir(), 'graft-docs-'));
  const folder = path.join(work, 'graft');
  const listed = spawnSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
  }).stdout;
  const top = new Set(listed.split('\n').map((file) => file.split('/')[0] as string));
  mkdirSync(folder);
  for (const entry of [...top, 'node_modules', 'dist']) {
    const [from, to] = [path.join(ROOT, entry), path.join(folder, entry)];
    const kind = entry === '' ? undefined : statSync(from, { throwIfNoEntry: false });
    // A file is copied: wrangler keeps its state beside the file that wrangler.toml leads to.
    if (kind?.isFile()) copyFileSync(from, to);
    else if (kind?.isDirectory()) symlinkSync(from, to);
  }
  return { folder, remove: () => rmSync(work, { recursive: true, force: true, maxRetries: 5 }) };
}

/** Every program is noted in place of being run; redirections and what bash does itself are real. */
const RECORDER = String.raw`
PATH=/nonexistent
command_not_found_handle() { printf '%s\0' "$@" $'\1' >> "$GRAFT_RECORD"; }
cd() { builtin cd "$@" || command_not_found_handle cd "$@"; }
`;

/** @returns of each block the words of each program that it would start; the parts of a pipe in any order. */
export function programsIn(blocks: readonly (readonly string[])[]): string[][][] {
  const { folder, remove } = likeACheckout();
  try {
    const record = path.join(folder, '..', 'record');
    writeFileSync(record, '');
    const script = blocks.map(
      (commands) => `(\n${commands.join('\n')}\nwait\n)\nprintf '\\2\\0' >> "$GRAFT_RECORD"`,
    );
    spawnSync('bash', ['-c', `${RECORDER}\n${script.join('\n')}`], {
      cwd: folder,
      env: { GRAFT_RECORD: record, HOME: path.dirname(folder) },
      stdio: 'ignore',
    });
    return readFileSync(record, 'utf8')
      .split('\u0002\0')
      .slice(0, -1)
      .map((block) =>
        block
          .split('\u0001\0')
          .slice(0, -1)
          .map((words) => words.split('\0').slice(0, -1)),
      );
  } finally {
    remove();
  }
}
