/**
 * Texts whose keys and values show how large those of a base get: prose in several scripts, code, tables, and what
 * models are seldom asked. Changing them changes every base's scales: raise `DECODING_VERSION` in build-graphs.ts.
 */
import type { ChatTemplate } from './chat-template.ts';
import type { Tokenizer } from './tokenizer.ts';

const CALIBRATION = [
  `The ferry left the harbour at a quarter past six, while the fish market was still being hosed down. Two passengers
stood at the rail: a surveyor with a tube of maps under her arm, and a boy who had been told not to lean over it. "How
deep is it here?" he asked. "Forty metres," she said, "and colder than you think." Behind them the lighthouse went out,
as it did each morning, without anybody having touched it. By nine the fog had lifted, and the islands lay before them,
brown and flat, with a church on the largest and nothing at all on the others.`,
  `Patient: 67-year-old man with a history of hypertension and type 2 diabetes (metformin 850 mg twice daily). Presents
with chest tightness on exertion for three weeks, relieved by rest. Blood pressure 152/94 mmHg, pulse 78/min, SpO2 97 %.
ECG: sinus rhythm, no ST elevation. Troponin T 9 ng/l, repeated after three hours 10 ng/l. Assessment: stable angina,
intermediate risk. Plan: aspirin 75 mg, atorvastatin 40 mg at night, stress echocardiography within ten days; return at
once if the pain lasts for more than fifteen minutes.`,
  `def merge(left: list[int], right: list[int]) -> list[int]:
    """Merges two sorted lists."""
    out, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            out.append(left[i]); i += 1
        else:
            out.append(right[j]); j += 1
    return out + left[i:] + right[j:]

export async function readAll(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8'); // throws if the stream fails
}
SELECT name, COUNT(*) AS n FROM orders JOIN users USING (user_id) WHERE total >= 19.99 GROUP BY name ORDER BY n DESC;`,
  `{"id": "ord_8f31c", "created": "2024-11-05T08:14:59Z", "currency": "EUR", "items": [{"sku": "A-1001", "quantity": 3,
"price": 12.5}, {"sku": "B-0042", "quantity": 1, "price": 199.0, "discount": null}], "address": {"street": "12 Rue des
Lilas", "city": "Lyon", "postcode": "69003"}, "paid": true, "tags": ["gift", "express"]}
| month | income | costs | difference |
|-------|-------:|------:|-----------:|
| Jan   | 10,250 | 8,930 |      1,320 |
| Feb   |  9,870 | 9,105 |        765 |
| Mar   | 12,004 | 9,980 |      2,024 |
https://example.com/search?q=caf%C3%A9&page=2&sort=asc#results   user.name+tag@mail.example.org   +49 30 1234567`,
  `Die Brücke wurde im Frühjahr gesperrt, weil zwei der vier Seile Rost angesetzt hatten; seither fährt der Bus über die
Höhe. La bibliothécaire rangeait les livres tombés pendant la nuit, sans se demander qui les avait ouverts. El tren de
las ocho llegó tarde otra vez, y nadie en el andén pareció sorprenderse. Вечером в деревне погасли огни, и только у
мельницы ещё горела лампа. 今天下午会议改到三点，请大家提前准备好材料。新しい駅の前に小さな本屋ができました。
وصل القطار متأخرا هذا الصباح بسبب الضباب. मौसम आज साफ़ है और हवा धीमी चल रही है। Η θάλασσα ήταν ήρεμη.`,
  `Let f(x) = 3x^2 - 4x + 1. Then f'(x) = 6x - 4, which is 0 at x = 2/3; f(2/3) = -1/3 is the minimum. Sum the series
1 + 1/2 + 1/4 + 1/8 + ... = 2. 17 * 23 = 391, 391 / 7 = 55.857142..., sqrt(2) = 1.41421356237, e = 2.718281828, 0x7fff
= 32767, 10^-9, 1e+30, -273.15, 3.14159265358979. Therefore, if n is even, n = 2k for some integer k, and n^2 = 4k^2.`,
  `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa !!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!! 0000000000000000000000000000 the the the the the the
the the the the ================================ ........................ \t\t\t\t\t\t\t\t \n\n\n\n\n\n\n\n    
    ha ha ha ha ha ha ha 🙂🙂🙂🙂🙂🎉🎉🚀🚀 ^^^^^^^^ {{{{{{{{ }}}}}}}} (((((((( )))))))) <><><><><><> ÿþýüûúùø ████████
URGENT: READ THIS NOW!!! BUY CHEAP WATCHES, LIMITED OFFER, CLICK HERE. xqzjv kwpfg blorptz 9f86d081884c7d659a2feaa0c55a`,
  `Dear Ms Okafor, thank you for your letter of 3 March. We are sorry that the dishwasher arrived with a cracked door. A
technician will call on Thursday between 8 and 12; if that does not suit you, reply to this message or ring 0800 55 11
22. You need not pay for the repair. First, switch the machine off. Second, close the tap. Third, wait for ten minutes
before you open the door again, because the water inside may still be hot. Yours sincerely, Tomas Lindqvist.`,
] as const;

/** Others, to measure the scales by. */
const CONTROL = [
  `The glacier has retreated by eleven metres since the last survey, and the meltwater now runs east instead of north. Our
instruments on the moraine were moved twice: in June, after the slide, and in August, when the stream had reached the
battery box. What surprised us was the sound. At night, with the wind gone, one hears the ice itself, a low crack every
few minutes, as if somebody were closing doors in a very large house.`,
  `for (const [name, value] of Object.entries(settings)) {
  if (value === undefined) continue;
  lines.push(\`\${name} = \${JSON.stringify(value)}\`);
}
Question: which of these is a mammal? (a) trout (b) bat (c) gecko (d) heron. Answer: (b), since bats feed their young
with milk. Frage: Wie spät ist es? Antwort: Es ist zehn nach vier, und der Laden schließt um sechs.`,
  `Minutes, 9 January. Present: Ines (chair), Rafael, Mr Owusu. 1. The roof: two offers have come in, of 14,200 and 15,900;
the cheaper one does not include scaffolding. Rafael will ask for a third. 2. Keys: the lock of the side door sticks when
it is cold. Agreed to replace it before the concert on the 21st. 3. Next meeting: Tuesday at seven, in the library,
because the hall is being painted. Ines thanked everybody and closed the meeting at a quarter to nine.`,
  `What is a tide? The water of the oceans is pulled by the Moon and, less strongly, by the Sun. On the side that faces the
Moon it rises, and on the far side too, since the Earth itself is pulled away from that water. As the planet turns, most
coasts pass through both bulges within a day, and so see two high waters and two low ones. Around full and new moon both
pulls add up: these are spring tides. A week later they are at right angles, and the neap tides that follow are weak.`,
] as const;

/** Of a sequence; many short ones are better than one, because models give the first tokens their largest keys. */
const MOST_TOKENS = 512;

/** Of each text; they are decoded one by one. */
const MOST_CONTROL_TOKENS = 48;

/** A text whose first tokens are read at once, as a prompt, and whose others are decoded. */
export interface ControlText {
  readonly prompt: readonly number[];
  readonly answer: readonly number[];
}

/**
 * @returns sequences of token ids, each from a beginning on: `calibration` to take scales from, `control` to test them.
 * @throws ChatTemplateError when the template refuses a user's message.
 */
export function calibrationTokens(
  tokenizer: Tokenizer,
  template: ChatTemplate | null,
  context: number,
): { calibration: number[][]; control: ControlText[] } {
  const most = Math.min(MOST_TOKENS, context);
  const plain = (text: string): number[] => [
    ...tokenizer.prefixIds,
    ...tokenizer.encode(text, { allowSpecial: false }),
  ];
  const chat = (text: string): number[] => template?.encode([{ role: 'user', content: text }]) ?? plain(text);
  const sequences = (texts: readonly string[]): number[][] =>
    texts
      .flatMap((text) => [plain(text), chat(text)])
      .map((tokens) => tokens.slice(0, most))
      .filter((tokens) => tokens.length > 1);
  const control = CONTROL.map((text) => {
    const tokens = chat(text).slice(0, most);
    const half = Math.ceil(tokens.length / 2);
    return { prompt: tokens.slice(0, half), answer: tokens.slice(half, half + MOST_CONTROL_TOKENS) };
  });
  return { calibration: sequences(CALIBRATION), control };
}
