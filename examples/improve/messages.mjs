// Support messages, and what is right about them: the same ones each time for a seed.
const INTENTS = {
  track_order: ['Where is order #?', 'Has # shipped yet?', 'When will # arrive?', 'Track my parcel #'],
  refund: [
    'Please refund order #',
    'Can I get a refund on #?',
    'I want my money back for #',
    'Order # broke after a day, I want a refund',
  ],
  cancel_order: [
    'Cancel order #',
    "Don't send #",
    'I no longer need #, cancel it',
    'Please stop order # before it ships',
  ],
  damaged_item: [
    '# arrived broken',
    '# came with a cracked screen',
    'The box of # was crushed',
    'My item from # is scratched',
  ],
  missing_item: [
    '# is missing a piece',
    'One item was not in #',
    'I only got half of #',
    'The charger is not in the box of #',
  ],
  exchange: [
    'Exchange # please',
    'Can I trade # for a smaller size?',
    'I need another color for #',
    'Swap # for another one',
  ],
  invoice: [
    'I need an invoice for #',
    'Send me the receipt of #',
    'Can I have the bill for #?',
    'My accountant needs the invoice of #',
  ],
  change_address: [
    'Send # to my new address',
    'Ship # to my office instead',
    'I moved, change the address on #',
    'Deliver # to my neighbor',
  ],
};
/** What an answer can be. */
export const CHOICES = Object.keys(INTENTS);
const GREETINGS = ['', 'Hi, ', 'Hello, ', 'Hey. ', 'Excuse me, ', 'Good morning. '];
const ENDINGS = [
  '',
  ' Thanks.',
  ' Thank you.',
  ' No hurry.',
  ' It is urgent!',
  ' As soon as possible please.',
];
const LETTERS = 'ABCDEFGHKM';

/** @param seed a whole number. @returns so many messages, each `{user, expected}`. */
export function messages(seed, count) {
  let state = seed >>> 0;
  // The high bits of a linear congruential generator (Numerical Recipes').
  const below = (most) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * most);
  };
  const one = (list) => list[below(list.length)];
  return Array.from({ length: count }, () => {
    const intent = one(CHOICES);
    const order = `${LETTERS[below(LETTERS.length)]}${1000 + below(9000)}`;
    const user = one(GREETINGS) + one(INTENTS[intent]).replace('#', order) + one(ENDINGS);
    return { user, expected: intent };
  });
}
