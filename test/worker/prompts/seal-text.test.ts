import { expect, it } from 'vitest';
import { createPromptSealer } from '../../../worker/prompts/keep-prompts.ts';

const secret = (byte: number) => new Uint8Array(32).fill(byte);
const place = { tenant: 'me', at: 5, id: 'r1' };

it('opens what was sealed for the same place alone, and never shows it', async () => {
  const sealer = createPromptSealer(secret(1));
  const text = 'é🐟 '.repeat(20_000);
  const sealed = await sealer.seal(place, text);
  expect(await sealer.open(place, sealed)).toBe(text);
  expect(await sealer.seal(place, text)).not.toBe(sealed);
  for (const other of [{ tenant: 'you' }, { at: 6 }, { id: 'r2' }])
    expect(await sealer.open({ ...place, ...other }, sealed)).toBeNull();
  for (const wrong of ['', 'AAAA', `${sealed.slice(0, -4)}AAAA`, 'no base64!'])
    expect(await sealer.open(place, wrong)).toBeNull();
});

it('opens what was sealed with a secret that is accepted still', async () => {
  const sealed = await createPromptSealer(secret(1)).seal(place, 'hi');
  expect(await createPromptSealer(secret(2), [secret(1)]).open(place, sealed)).toBe('hi');
  expect(await createPromptSealer(secret(2)).open(place, sealed)).toBeNull();
});
