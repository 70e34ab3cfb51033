/** examples/publish_from_python.py against a whole stack with a tiny base; needs python3, and says so when it is skipped. */
import { execFile, spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packAdapter } from '../../adapters/index.ts';
import { TINY_ADAPTERS, writeTinyAdapter, type TinyAdapter } from '../fixtures/tiny-base.ts';
import { startTinyStack, type TinyStack } from './tiny-stack.ts';

const EXAMPLES = path.join(import.meta.dirname, '../../examples');
const SCRIPT = path.join(EXAMPLES, 'publish_from_python.py');
const hasPython = spawnSync('python3', ['--version']).status === 0;

const python = (
  args: readonly string[],
  env: Record<string, string> = {},
  cwd = EXAMPLES,
): Promise<{ stdout: string }> =>
  promisify(execFile)('python3', args, {
    cwd,
    // No compiled copy beside the example.
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', ...env },
  });

describe.skipIf(!hasPython)(`publish_from_python.py${hasPython ? '' : ' (no python3 here)'}`, () => {
  let stack: TinyStack;
  /** In the folder of the stack, whose address and key it finds. */
  const publish = (...args: string[]) => python([SCRIPT, ...args], {}, stack.folder);
  const fails = async (
    args: readonly string[],
    env: Record<string, string>,
    cwd: string,
  ): Promise<string> => {
    const end = await python([SCRIPT, ...args], env, cwd).then(
      () => null,
      (error: unknown) => error as { code: number; stderr: string },
    );
    expect([end?.code, end?.stderr]).toEqual([1, expect.not.stringContaining('Traceback')]);
    return end?.stderr ?? '';
  };
  const folderOf = (name: string, kind: string): string => {
    const folder = path.join(stack.folder, name);
    writeTinyAdapter(folder, TINY_ADAPTERS[kind] as TinyAdapter);
    return folder;
  };
  beforeAll(async () => {
    stack = await startTinyStack();
  });
  afterAll(() => stack.remove());

  it('packs to the bytes that graft itself packs to', async () => {
    const folder = path.join(EXAMPLES, 'adapters/intent-v1');
    const { digest } = await packAdapter({
      files: {
        weights: new Uint8Array(await readFile(path.join(folder, 'adapter_model.safetensors'))),
        configJson: await readFile(path.join(folder, 'adapter_config.json'), 'utf8'),
      },
      baseId: 'smollm2-135m-instruct',
      parentChainId: null,
    });
    const code = `import hashlib, publish_from_python as p; print(hashlib.sha256(p.pack(${JSON.stringify(folder)}, None)).hexdigest())`;
    const { stdout } = await python(['-c', code], { PYTHONPATH: EXAMPLES });
    expect(stdout.trim()).toBe(digest);
  });

  it('publishes activated adapters, which share the prompt before their tokens', async () => {
    // The opening of the assistant's turn, a token a byte.
    const invocation = [1, ...[...'assistant\n'].map((character) => 3 + character.charCodeAt(0))];
    for (const [name, kind] of [
      ['anna', 'attention'],
      ['ben', 'everything'],
    ] as const) {
      const folder = folderOf(name, kind);
      const file = path.join(folder, 'adapter_config.json');
      const config = JSON.parse(await readFile(file, 'utf8')) as object;
      await writeFile(file, JSON.stringify({ ...config, alora_invocation_tokens: invocation }));
      expect((await publish(folder, `clinic/${name}`)).stdout).toBe(`published clinic/${name}@1\n`);
    }
    const ask = async (name: string) => {
      const response = await fetch(`${stack.local.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${stack.local.key}`, 'content-type': 'application/json' },
        body: JSON.stringify({
          ...{ model: `clinic/${name}`, max_tokens: 4, temperature: 0 },
          messages: [
            { role: 'system', content: 'Answer in a word. '.repeat(10) },
            { role: 'user', content: 'hi' },
          ],
        }),
      });
      const { usage, choices } = (await response.json()) as {
        usage: { prompt_tokens: number; prompt_tokens_details?: { cached_tokens: number } };
        choices: { message: { content: string } }[];
      };
      return {
        unread: usage.prompt_tokens - (usage.prompt_tokens_details?.cached_tokens ?? 0),
        prompt: usage.prompt_tokens,
        text: choices[0]?.message.content,
      };
    };
    const first = await ask('anna');
    expect(first.unread).toBe(first.prompt);
    // All that the base reads is there: the prompt is the same up to the tokens.
    const second = await ask('ben');
    expect(second).toMatchObject({ unread: invocation.length, prompt: first.prompt });
    expect(second.text).not.toBe(first.text);
  });

  it('publishes, on top of another one too, and the same again changes nothing', async () => {
    const folder = folderOf('parent', 'attention');
    expect((await publish(folder, 'alice/notes')).stdout).toBe('published alice/notes@1\n');
    expect((await publish(folder, 'alice/notes')).stdout).toBe('published alice/notes@1\n');
    const child = folderOf('child', 'everything');
    expect((await publish(child, 'alice/notes/today', 'alice/notes')).stdout).toBe(
      'published alice/notes/today@1\n',
    );
    const response = await fetch(`${stack.local.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.local.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        ...{ model: 'alice/notes/today', max_tokens: 2 },
        messages: [{ role: 'user', content: 'hi' }],
      }),
    });
    expect([response.status, response.headers.get('x-graft-adapter')]).toEqual([200, 'alice/notes/today@1']);
  });

  it('ends with a message that says what to do', async () => {
    const folder = folderOf('plain', 'attention');
    const args = [folder, 'alice/plain'];
    expect(await fails(args, {}, folder)).toBe(
      'error: No server. Run this where `npm start` runs, or set GRAFT_URL and GRAFT_ADMIN_KEY.\n',
    );
    expect(await fails(args, { GRAFT_URL: stack.local.url }, folder)).toMatch(
      /^error: GRAFT_ADMIN_KEY is not set\./,
    );
    const nobody = { GRAFT_URL: 'http://127.0.0.1:9', GRAFT_ADMIN_KEY: stack.local.adminKey };
    expect(await fails(args, nobody, folder)).toMatch(/^error: No answer from http:\/\/127\.0\.0\.1:9 \(/);
    const wrong = { GRAFT_URL: stack.local.url, GRAFT_ADMIN_KEY: 'ga_wrong' };
    expect(await fails(args, wrong, folder)).toMatch(/^error: .*: 401 /);
    expect(await fails(['no-folder', 'alice/plain'], {}, stack.folder)).toMatch(
      /^error: no-folder has no adapter_config\.json\. Give the folder/,
    );
    expect(await fails([folder, 'alice/plain', 'no/such'], {}, stack.folder)).toMatch(/^error: .*no\/such/);
  });

  it('refuses what it would read wrongly, and says what the server said', async () => {
    const folder = folderOf('scaled', 'attention');
    const file = path.join(folder, 'adapter_config.json');
    const config = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
    await writeFile(file, JSON.stringify({ ...config, use_rslora: true }));
    await expect(publish(folder, 'alice/scaled')).rejects.toThrow(/not a plain LoRA/);
    await writeFile(file, JSON.stringify({ ...config, base_model_name_or_path: 'other/base' }));
    await expect(publish(folder, 'alice/scaled')).rejects.toThrow(/422|409|400/);
  });
});
