import { expect, it } from 'vitest';
import { paceFrom, tokensPerSecond, ttft, withPiece, type Pace } from '../../dashboard/model/chat-events.ts';

const paceOf = (...times: number[]): Pace => times.reduce(withPiece, paceFrom(100));

it.each<[number[], number | null, number | null]>([
  [[], null, null],
  [[150], 50, null],
  // All at once.
  [[150, 150], 50, null],
  [[100, 600], 0, 2],
  [[150, 250, 350], 50, 10],
])('pieces at %j: first after %j ms, then %j a second', (times, first, rate) => {
  const pace = paceOf(...times);
  expect(ttft(pace)).toBe(first);
  expect(tokensPerSecond(pace)).toBe(rate);
});

it.each([
  [21, 100],
  // One token cannot have a rate, however many pieces it came in.
  [1, null],
  [0, null],
])('uses %d tokens once they are known: %j a second', (tokens, rate) => {
  expect(tokensPerSecond({ ...paceOf(150, 200, 350), tokens })).toBe(rate);
});
