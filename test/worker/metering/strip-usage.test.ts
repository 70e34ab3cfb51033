import { describe, expect, it } from 'vitest';
import { USAGE_COMMENT } from '../../../protocol/origin-wire.ts';
import { EventFilter } from '../../../worker/origins/connection.ts';

const encode = (text: string) => new TextEncoder().encode(text);

/** @param sizes lengths of the pieces, repeated. */
function strip(
  text: string,
  sizes: readonly number[],
  options?: ConstructorParameters<typeof EventFilter>[1],
) {
  const filter = new EventFilter('/v1/chat/completions', options);
  const bytes = encode(text);
  const out: Uint8Array[] = [];
  for (let at = 0, i = 0; at < bytes.length; i += 1) {
    const size = sizes[i % sizes.length] as number;
    out.push(...(filter.push(bytes.slice(at, at + size))?.pieces ?? []));
    at += size;
  }
  return { text: Buffer.concat(out).toString(), note: filter.note, events: filter.events };
}

const data = (content: string) => `data: ${JSON.stringify({ content })}\n\n`;
const note = `${USAGE_COMMENT}prompt=12,completion=34\n\n`;
const head = `: ping\n\n${data('a')}event: x\n${data(': graft-usage prompt=1,completion=1')}`;
const tail = `${data('ü')}: ping\n\ndata: [DONE]\n\n`;

describe('removing the usage note from a stream', () => {
  it.each([[[1]], [[2, 3]], [[7]], [[64, 1, 5]], [[10_000]]])('works in pieces of %j bytes', (sizes) => {
    expect(strip(head + note + tail, sizes)).toEqual({
      text: head + tail,
      note: { promptTokens: 12, completionTokens: 34 },
      events: 4,
    });
  });

  it.each(['stop', 'length'] as const)('keeps how the answer ended: %s', (finish) => {
    const ended = `${USAGE_COMMENT}prompt=12,completion=34,finish=${finish}\n\n`;
    for (const size of [1, 5, 10_000])
      expect(strip(head + ended + tail, [size])).toEqual({
        text: head + tail,
        note: { promptTokens: 12, completionTokens: 34, finish },
        events: 4,
      });
  });

  it('leaves a stream without a note as it is', () => {
    for (const size of [1, 3, 1_000]) {
      expect(strip(head + tail, [size])).toEqual({ text: head + tail, note: null, events: 4 });
      // Cut anywhere: whole events are passed on, and everything that is too long to hold.
      for (let end = 0; end <= head.length; end += 5) {
        const cut = head.slice(0, end);
        expect(strip(cut, [size]).text).toBe(/^.*\n\n/s.exec(cut)?.[0] ?? '');
        expect(strip(cut, [size], { maxHeldBytes: 0 }).text).toBe(cut);
      }
    }
  });

  it.each([
    ': graft-usage prompt=x,completion=1\n\n',
    ': graft-usage prompt=1,completion=2 and more\n\n',
    ': graft-usage prompt=1,completion=2,finish=odd\n\n',
    ': graft-usage prompt=1,finish=stop\n\n',
    ': graft-usage-not prompt=1,completion=2\n\n',
    `: graft-usage ${'9'.repeat(500)}\n\n`,
    ` : graft-usage prompt=1,completion=2\n\n`,
    ':\n\n',
  ])('passes on what only looks like one: %j', (odd) => {
    for (const size of [1, 9, 1_000]) {
      const { text, note: found } = strip(data('a') + odd, [size]);
      expect([text, found]).toEqual([data('a') + odd, null]);
    }
  });

  it('removes all comments for a client that cannot parse them', () => {
    const spoken = (text: string) => text.replaceAll(': ping\n\n', '');
    for (const size of [1, 3, 7, 1_000]) {
      const { text, note: found } = strip(head + note + tail, [size], { takesComments: false });
      expect(text).toBe(spoken(head + tail));
      expect(found).toEqual({ promptTokens: 12, completionTokens: 34 });
    }
  });

  it('returns a chunk without comments as it is', () => {
    const chunk = encode(data('a'));
    expect(new EventFilter('/v1/completions').push(chunk)?.pieces).toEqual([chunk]);
    expect(new EventFilter('/v1/completions').push(chunk)?.pieces[0]).toBe(chunk);
  });
});
