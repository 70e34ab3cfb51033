import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { ApiClient } from '../../../cli/api-client.ts';
import { revokeKey } from '../../../cli/commands/keys.ts';
import type { Output } from '../../../cli/output.ts';
import { NO_RIGHTS, type KeyView } from '../../../protocol/admin-api/keys.ts';

const key = (id: string): KeyView => ({
  id,
  kind: 'api',
  tenant: 'acme',
  scopes: [],
  scope_owners: [],
  label: '',
  created_at: 0,
  created_by: 'key_1',
  revoked_at: null,
  expires_at: null,
  ...NO_RIGHTS,
  replaced_by: null,
  replaces: null,
});

/** @param answers to the requests, in their order; null = 204, as of an edge that gives no report. */
async function run(answers: (object | null)[], wanted: Partial<Parameters<typeof revokeKey>[2]> = {}) {
  const asked: string[] = [];
  const said: string[] = [];
  const send = async (_what: string, path: string) => {
    asked.push(path);
    const answer = answers[asked.length - 1] ?? null;
    return answer === null ? new Response(null, { status: 204 }) : Response.json(answer);
  };
  let told: unknown;
  const output = {
    result: (value: unknown, text: () => string) => {
      told = value;
      said.push(text());
    },
    note: (text: string) => said.push(text),
  };
  const revocation = { id: 'key_1', made: false, only: false, forgetPrompts: false, ...wanted };
  await revokeKey({ send } as unknown as ApiClient, output as unknown as Output, revocation);
  return { asked, told, said: stripVTControlCharacters(said.join('\n')) };
}

const page = (more: object) => ({
  ...{ id: 'key_1', revoked: [key('key_1')], made: [], more_made: false, cursor: null },
  ...more,
});

describe('graft keys revoke', () => {
  it('deletes kept prompts if told to', async () => {
    const { asked, said } = await run([page({})], { forgetPrompts: true });
    expect(asked).toEqual(['/admin/keys/key_1?report=true&forget_prompts=true']);
    expect(said).toContain('key_1 is revoked, and its kept prompts are deleted;');
  });

  it('shows which keys ended, and how to revoke those they created', async () => {
    const { asked, told, said } = await run([
      page({ revoked: [key('key_1'), key('key_2')], made: [key('key_3')] }),
    ]);
    expect(asked).toEqual(['/admin/keys/key_1?report=true']);
    expect(told).toEqual({ id: 'key_1', revoked: true, also: ['key_2'], made: ['key_3'] });
    expect(said).toMatch(/key_1 is revoked, and with it key_2;/);
    expect(said).toMatch(/key_3 .*\n.*were created by them .*graft keys revoke key_1 --made/);
  });

  it('reads all pages', async () => {
    const { asked, told } = await run(
      [page({ cursor: 'key_1' }), page({ revoked: [key('key_2'), key('key_3')] })],
      { made: true },
    );
    expect(asked).toEqual([
      '/admin/keys/key_1?report=true&made=true',
      '/admin/keys/key_1?report=true&made=true&cursor=key_1',
    ]);
    expect(told).toMatchObject({ also: ['key_2', 'key_3'] });
  });

  it('revokes a single key if told to', async () => {
    const { asked, said } = await run([page({ made: [key('key_3')] })], { only: true });
    expect(asked).toEqual(['/admin/keys/key_1?report=true&successors=false']);
    expect(said).toBe('key_1 is revoked; elsewhere this takes effect within about a minute');
  });

  it('works with an older edge', async () => {
    expect((await run([null])).told).toEqual({ id: 'key_1', revoked: true, also: [], made: [] });
  });
});
