import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { CLI_DOCS, cliDocs } from '../../../cli/docs/write-cli-docs.ts';

it('docs/cli.md is what `npm run docs` writes', async () => {
  expect(await readFile(CLI_DOCS, 'utf8')).toBe(await cliDocs());
});
