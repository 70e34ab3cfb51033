import type { Random } from './random.ts';

const CHARACTERS = [...'0123456789abcdefABCXYZ_-=,. \n\t\u0000é'];

/** @returns what is not `good`: one or more characters changed, cut, doubled, moved, or taken from `other`. */
export function mutateSignature(random: Random, good: string, other: string): string {
  for (;;) {
    const mutant = once(random, good, other);
    if (mutant !== good) return mutant;
  }
}

function once(random: Random, good: string, other: string): string {
  const at = random.below(good.length);
  const fields = good.slice(3).split(',');
  const field = random.below(fields.length);
  const joined = (list: readonly string[]) => `v1 ${list.join(',')}`;
  switch (random.below(9)) {
    case 0:
      return good.slice(0, at) + random.pick(CHARACTERS) + good.slice(at + 1);
    case 1:
      return good.slice(0, at) + good.slice(at + 1 + random.below(8));
    case 2:
      return good.slice(0, at) + random.pick(CHARACTERS) + good.slice(at);
    case 3: {
      const theirs = other.slice(3).split(',');
      return joined(fields.map((mine, place) => (place === field ? (theirs[place] as string) : mine)));
    }
    case 4:
      return joined(fields.filter((_, place) => place !== field));
    case 5:
      return joined([...fields, random.pick([...fields, 'x=1', 's=', 'kid=k0'])]);
    case 6: {
      // One hex digit of hash or MAC: the field that matters, of the right form.
      const place = random.below(2) === 0 ? good.indexOf('h=') + 2 : good.indexOf('s=') + 2;
      const digit = place + random.below(64);
      const now = parseInt(good.charAt(digit), 16);
      return good.slice(0, digit) + ((now + 1 + random.below(15)) % 16).toString(16) + good.slice(digit + 1);
    }
    case 7:
      return good.replace(/t=\d+/, `t=${1_700_000_000_000 + random.below(120_000) - 60_000}`);
    default:
      return random.pick([`v2${good.slice(2)}`, good.toUpperCase(), ` ${good}`, good.repeat(2), '', other]);
  }
}
