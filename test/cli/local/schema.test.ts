import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { startEdge } from '../../../cli/local/edge.ts';
import { MIGRATIONS, neededSchema } from '../../../cli/local/schema.ts';

it('knows the hash of the schema beside it', async () => {
  const text = await readFile(path.join(MIGRATIONS, '0001_schema.sql'), 'utf8');
  const rest = text.split('\n').filter((line) => !line.startsWith('INSERT INTO schema_hash'));
  expect(await neededSchema()).toBe(createHash('sha256').update(rest.join('\n')).digest('hex'));
});

it('refuses a registry of another version of graft, and starts again with its own', async () => {
  const stateFolder = await mkdtemp(path.join(tmpdir(), 'graft-schema-'));
  const start = (use?: string) =>
    startEdge({ port: 0, stateFolder, bindings: {} }).then(async (edge) => {
      if (use !== undefined) await (await edge.miniflare.getD1Database('DB')).prepare(use).run();
      await edge.stop();
    });
  try {
    await start();
    await start("UPDATE schema_hash SET hash = 'feedc0de' || substr(hash, 9)");
    await expect(start()).rejects.toMatchObject({
      code: 'other_schema',
      message: expect.stringMatching(
        /schema is feedc0de, this version needs [0-9a-f]{8}\. .*rm -r \/.*/,
      ) as string,
    });
  } finally {
    await rm(stateFolder, { recursive: true });
  }
});
