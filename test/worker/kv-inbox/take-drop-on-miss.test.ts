/** Files dropped into KV, taken in for requests by a name that does not exist yet. */
import { beforeEach, describe, expect, it } from 'vitest';
import { DROP_QUIET_MS } from '../../../worker/kv-inbox/limits.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createDropHarness, DROP_TENANT, type DropHarness } from './drop-harness.ts';

const first = tinyAdapter({ seed: 1 });
const second = tinyAdapter({ seed: 2 });
const verified = ({ asked }: DropHarness) => asked.filter((line) => line.endsWith('/verify')).length;

let graft: DropHarness;
let key: string;
/** Names whose file was looked for. */
let looked: string[];
beforeEach(async () => {
  graft = await createDropHarness();
  key = await graft.makeKey(DROP_TENANT);
  looked = [];
  const { read } = graft.box;
  graft.box.read = (name) => {
    looked.push(name);
    return read(name);
  };
});

describe('a request by a name that does not exist', () => {
  it('is answered by the file that lies there', async () => {
    await graft.drop('alice/support', first);
    const answer = await graft.chat('alice/support', key);
    expect([answer.status, answer.headers.get('x-graft-adapter')]).toEqual([200, 'alice/support@1']);
    expect(answer.headers.get('x-graft-inherited')).toBeNull();
  });

  it('comes before what the name would inherit', async () => {
    await graft.publish('alice', first, { owner: DROP_TENANT });
    await graft.drop('alice/support', second);
    expect((await graft.chat('alice/support', key)).headers.get('x-graft-adapter')).toBe('alice/support@1');
    expect((await graft.chat('alice/other', key)).headers.get('x-graft-adapter')).toBe('alice@1');
  });

  it('takes it once, however many ask at once', async () => {
    await graft.drop('a', first);
    const answers = await Promise.all(Array.from({ length: 10 }, () => graft.chat('a', key)));
    expect(answers.map((answer) => answer.headers.get('x-graft-adapter'))).toEqual(Array(10).fill('a@1'));
    expect([verified(graft), looked, await graft.versions('a')]).toEqual([1, ['a'], [`1 ${first.digest}`]]);
  });

  it('looks no more once it has taken the file in, while KV still says that the name is missing', async () => {
    await graft.drop('a', first);
    for (let i = 0; i < 3; i += 1) {
      const answer = await graft.chat('a', key);
      expect(answer.headers.get('x-graft-adapter')).toBe('a@1');
      expect(await graft.services.names.get('a')).toEqual({ state: 'absent' });
    }
    expect(looked).toEqual(['a']);
  });

  it('looks for nothing when the name exists, or is asked for as a version or by nobody', async () => {
    await graft.publish('old', first, { owner: DROP_TENANT });
    await graft.drop('old', second);
    await graft.drop('new', second);
    expect((await graft.chat('old', key)).headers.get('x-graft-adapter')).toBe('old@1');
    expect((await graft.chat('new@1', key)).status).toBe(404);
    const stranger = await graft.chat('new', `gk_${'0'.repeat(33)}`);
    expect([stranger.status, looked]).toEqual([401, []]);
  });

  it('looks again when KV can have forgotten that there was nothing', async () => {
    expect((await graft.chat('late', key)).status).toBe(404);
    await graft.drop('late', first);
    expect((await graft.chat('late', key)).status).toBe(404);
    expect(looked).toEqual(['late']);
    graft.clock.advance(DROP_QUIET_MS);
    expect((await graft.chat('late', key)).status).toBe(200);
  });

  it('takes it in for its owner, and is refused when that is not the caller', async () => {
    const stranger = await graft.makeKey('stranger');
    await graft.drop('a', first);
    expect((await graft.chat('a', stranger)).status).toBe(404);
    expect((await graft.chat('a', key)).status).toBe(200);
  });

  it('is a plain 404 when the file is bad, and leaves it to the schedule', async () => {
    const missing = (await (await graft.chat('nothing', key)).json()) as object;
    await graft.drop('a', 'no adapter');
    for (let i = 0; i < 3; i += 1) {
      const answer = await graft.chat('a', key);
      expect(answer.status).toBe(404);
      expect(JSON.stringify(await answer.json())).toBe(JSON.stringify(missing).replaceAll('nothing', 'a'));
    }
    expect(looked).toEqual(['nothing', 'a']);
    expect(graft.errorOf('a')).toMatchObject({ code: 'adapter_invalid', retrying: false });
  });

  it('is a 404 when KV cannot say, and no error of the edge', async () => {
    await graft.drop('a', first);
    graft.box.read = () => Promise.reject(new Error('KV is on fire'));
    expect((await graft.chat('a', key)).status).toBe(404);
  });
});
