/**
 * Fine-tuning by PyPI's openai on `graft dev --train`, over a tiny base. Not part of `npm test`, which needs no Python:
 *
 *   python3 -m venv .venv && .venv/bin/pip install openai
 *   PYTHON=.venv/bin/python node --import tsx test/interop/openai-python/fine-tuning.ts
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { NewKey } from '../../../protocol/admin-api/keys.ts';
import { startTinyStack } from '../../e2e/tiny-stack.ts';

/** What the script ends with when the package is missing. */
const SKIPPED = 77;

const stack = await startTinyStack('', ['--train']);
try {
  const made = await stack.graft('keys', 'create', '--tenant', 'me', '--train', '--json');
  const { key } = JSON.parse(made.stdout) as NewKey;
  const script = fileURLToPath(new URL('fine_tuning.py', import.meta.url));
  const python = spawn(process.env['PYTHON'] ?? 'python3', [script], {
    stdio: 'inherit',
    env: { ...process.env, OPENAI_BASE_URL: `${stack.local.url}/v1`, OPENAI_API_KEY: key },
  });
  const [code] = (await once(python, 'exit')) as [number | null];
  process.exitCode = code === SKIPPED ? 0 : (code ?? 1);
} finally {
  await stack.remove();
}
