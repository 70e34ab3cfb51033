/** The console's "Call it" in the languages that need no download; `npm run interop -- snippets` runs all of them. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { callCode, LANGUAGES } from '../../dashboard/model/call-code.ts';
import { saying } from '../gpu-origin/http/scripted.ts';
import { ALL, ANSWER, checkSnippet, guideCode, recordRequests, runCode, type Recorder } from './snippet.ts';
import { ADAPTER, startConformanceStack, type ConformanceStack } from './stack.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
let stack: ConformanceStack;
let recorder: Recorder;
beforeAll(async () => {
  stack = await startConformanceStack({ runner: saying([[ALL.messages.at(-1)!.content, ANSWER]]) });
  recorder = await recordRequests(stack);
});
afterAll(async () => {
  recorder?.stop();
  await stack?.stop();
});

it.each([
  ['curl', 'sh', ['-c']],
  ['OpenAI JS', process.execPath, ['--input-type=module', '--eval']],
  ['AI SDK', process.execPath, ['--input-type=module', '--eval']],
] as const)('gets an answer with every parameter by %s', async (language, executable, args) => {
  const env = { GRAFT_KEY: stack.apiKey };
  const run = (code: string) => runCode({ executable, args, code, cwd: ROOT, env });
  await checkSnippet({ language, recorder, model: ADAPTER, run });
});

it.each(LANGUAGES.map((language) => [language]))('is in the guide for %s', (language) => {
  const guide = readFileSync(`${ROOT}/docs/guides/clients.md`, 'utf8');
  expect(guide).toContain(`\n${guideCode(language)}\n\`\`\``);
});

it('passes exactly the text to JavaScript, whatever it contains', () => {
  const content = fc.string({
    unit: fc.constantFrom("'", '"', '\\', '$', '`', '\n', 'a', 'é', '{', '\u2028'),
  });
  fc.assert(
    fc.property(content, (text) => {
      const code = callCode('OpenAI JS', 'http://x', {
        model: 'a',
        messages: [{ role: 'user', content: text }],
      });
      const [, literal = ''] = /content: ('[^]*') },\n/.exec(code) ?? [];
      expect(vm.runInNewContext(literal)).toBe(text);
    }),
  );
});
