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
try {
  const script = fileURLToPath(new URL('check.py', import.meta.url));
  const python = spawn(process.env['PYTHON'] ?? 'python3', [script], {
    stdio: 'inherit',
    env: { ...process.env, OPENAI_BASE_URL: stack.baseURL, OPENAI_API_KEY: stack.apiKey, MODEL: ADAPTER },
  });
  const [code] = (await once(python, 'exit')) as [number | null];
  process.exitCode = code === SKIPPED ? 0 : (code ?? 1);
} catch (error) {
  console.log(`skipped: Python does not start (${(error as Error).message})`);
} finally {
  await stack.stop();
}
