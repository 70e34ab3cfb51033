import type { HereTurn } from '../../here-store.ts';
import { divergence } from '../../model/divergence.ts';
import { number } from '../../model/words.ts';

/** How far apart the two last answers are: their texts, and the distributions that their tokens were drawn from. */
export function Comparison({ turn }: { turn: HereTurn | null }) {
  const { origin, here } = turn?.answers ?? { origin: null, here: null };
  if (origin?.state !== 'done' || here?.state !== 'done') return null;
  const isSameAdapter = origin.adapter === here.adapter;
  const found = divergence(origin.scores, here.scores);
  return (
    <p class="facts" role="status">
      {origin.text === here.text ? (
        <span>Both answers are the same, letter by letter.</span>
      ) : (
        <span>The answers differ.</span>
      )}
      {found !== null && (
        <span>
          {' '}
          <abbr
            tabIndex={0}
            title={`Kullback-Leibler divergence of the next token’s distribution, from the origin’s to the one here, before temperature; mean over the ${found.tokens} tokens at which both had read the same. Both tell at most 20 of their likeliest tokens, on average ${number(found.shared)} of them the same; all others count as one, so that it is a lower bound.`}
          >
            KL divergence
          </abbr>{' '}
          <strong>{nats(found.nats)} nats</strong> over {found.tokens}{' '}
          {found.tokens === 1 ? 'token' : 'tokens'}
          {found.tokens < origin.scores.length && ', as far as both texts agree'}.
        </span>
      )}
      {!isSameAdapter && (
        <span>
          {' '}
          They come from different adapters: {origin.adapter ?? 'the base'} at the origin,{' '}
          {here.adapter ?? 'the base'} here.
        </span>
      )}
    </p>
  );
}

/** Below a ten-thousandth, digits are rounding. */
const nats = (value: number): string => (value < 1e-4 ? '< 0.0001' : number(value));
