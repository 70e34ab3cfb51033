/**
 * PyPI's openai through the edge, on the fake runner. Not part of `npm test`, which needs no Python:
 *
 *   python3 -m venv .venv && .venv/bin/pip install openai
 *   PYTHON=.venv/bin/python node --import tsx test/interop/openai-python/main.ts
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { ADAPTER, startConformanceStack } from '../../conformance/stack.ts';

/** What check.py ends with when the package is missing. */
const SKIPPED = 77;

const stack = await startConformanceStack();
const breaking = await startConformanceStack({
  context: { headersAfterMs: 1 },
  runner: {
    duringStep: async ({ kind }) => {
      // Long enough that the headers are out.
      await new Promise((resolve) => setTimeout(resolve, 30));
      if (kind === 'decode') throw new Error('the model broke');
    },
  },
});
try {
  const script = fileURLToPath(new URL('check.py', import.meta.url));
  const python = spawn(process.env['PYTHON'] ?? 'python3', [script], {
    stdio: 'inherit',
    env: {
      ...process.env,
      OPENAI_BASE_URL: stack.baseURL,
      OPENAI_API_KEY: stack.apiKey,
      MODEL: ADAPTER,
      BREAKING_BASE_URL: breaking.baseURL,
      BREAKING_API_KEY: breaking.apiKey,
    },
  });
  const [code] = (await once(python, 'exit')) as [number | null];
  process.exitCode = code === SKIPPED ? 0 : (code ?? 1);
} catch (error) {
  console.log(`skipped: Python does not start (${(error as Error).message})`);
} finally {
  await stack.stop();
  await breaking.stop();
}
