/** What the local edge reads of wrangler.toml and of migrations is what wrangler reads of them. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { unstable_getMiniflareWorkerOptions, unstable_readConfig, unstable_splitSqlQuery } from 'wrangler';
import { readWorkerOptions, splitSql } from '../../../cli/local/edge.ts';

const ROOT = path.join(import.meta.dirname, '../../..');

it('takes the same options from wrangler.toml as wrangler', async () => {
  const config = { ...unstable_readConfig({ config: path.join(ROOT, 'wrangler.toml') }) };
  const { workerOptions } = unstable_getMiniflareWorkerOptions({ ...config, assets: undefined });
  const ours = await readWorkerOptions();
  expect(ours).toEqual(
    Object.fromEntries(
      Object.keys(ours).map((key) => [key, workerOptions[key as keyof typeof workerOptions]]),
    ),
  );
  // What wrangler has beside them is empty, but for kinds of modules: the worker is one.
  const { modulesRules: _, ...others } = Object.fromEntries(
    Object.entries(workerOptions).filter(([key]) => !(key in ours)),
  );
  expect(JSON.stringify(others).replace(/[{}[\],]|"\w+":/g, '')).toBe('');
});

it('splits migrations into the same statements as wrangler', () => {
  const sql = readFileSync(path.join(ROOT, 'migrations/0001_schema.sql'), 'utf8');
  const plain = (statement: string) => statement.replace(/--.*$/gm, '').replace(/;$/, '').trim();
  expect(splitSql(sql)).toEqual(unstable_splitSqlQuery(sql).map(plain));
  expect(splitSql(sql).length).toBeGreaterThan(20);
});
