import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import { beforeAll, expect, it } from 'vitest';
import type { GrammarCore } from '../../../gpu-origin/grammar/grammar-core.ts';
import { seededRandom } from '../../../gpu-origin/generation/sampler.ts';
import { createByteCore, END, ofSchema, walkerOf } from './byte-core.ts';

let core: GrammarCore;
beforeAll(async () => {
  core = await createByteCore();
});

const ajv = new Ajv2020({ strict: false, validateFormats: false });

const leaf = fc.oneof(
  fc.constant({ type: 'boolean' }),
  fc.constant({ type: 'null' }),
  fc.record({ type: fc.constant('string'), maxLength: fc.integer({ min: 0, max: 4 }) }),
  fc
    .constantFrom('^[^"x]{1,3}$', '^(a|\\\\|é)+$', '^.\\s?$', '^(é|ê|日|本){2}$', '^(\\d{3}|\\d{5})$')
    .map((pattern) => ({ type: 'string', pattern })),
  fc
    .tuple(
      fc.integer({ min: -300, max: 300 }),
      fc.integer({ min: 0, max: 500 }),
      fc.constantFrom('integer', 'number'),
    )
    .map(([minimum, span, type]) => ({ type, minimum, maximum: minimum + span })),
  fc.constantFrom('integer', 'number').map((type) => ({ type })),
  fc
    .uniqueArray(fc.oneof(fc.string(), fc.integer(), fc.constant(null)), { minLength: 1, maxLength: 3 })
    .map((values) => ({ enum: values })),
);
const names = fc.uniqueArray(fc.constantFrom('a', 'ab', 'b', 'ü', 'q"', ''), { minLength: 1, maxLength: 4 });
const { schema: anySchema } = fc.letrec<{ schema: object }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    leaf,
    fc
      .tuple(
        names,
        fc.array(tie('schema'), { minLength: 4, maxLength: 4 }),
        fc.infiniteStream(fc.boolean()),
        fc.boolean(),
      )
      .map(([keys, schemas, flags, open]) => ({
        type: 'object',
        properties: Object.fromEntries(keys.map((key, at) => [key, schemas[at]])),
        required: keys.filter(() => flags.next().value),
        additionalProperties: open ? { type: 'integer', minimum: 0, maximum: 9 } : false,
      })),
    fc
      .tuple(tie('schema'), fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 2 }))
      .map(([items, minItems, more]) => ({ type: 'array', items, minItems, maxItems: minItems + more })),
    fc.array(tie('schema'), { minLength: 1, maxLength: 2 }).map((anyOf) => ({ anyOf })),
  ),
}));

/** Whatever the model would rather say: each byte that may come is as likely, and the end more so. */
it('gives nothing but what is valid', async () => {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  await fc.assert(
    fc.asyncProperty(anySchema, fc.integer(), async (schema, seed) => {
      const walker = await walkerOf(core, ofSchema(schema));
      const random = seededRandom(seed);
      const answer: number[] = [];
      let accepted: number[] = [];
      while (answer.length < 20_000) {
        const allowed = await walker.next(accepted);
        expect(allowed).not.toBeNull();
        // Ends and closing marks often enough that it comes to an end.
        const closing = allowed!.filter((id) => id === END || '"}]'.includes(String.fromCharCode(id)));
        const from = closing.length > 0 && random() < 0.4 ? closing : allowed!;
        const id = from[Math.floor(random() * from.length)]!;
        if (id === END) break;
        answer.push(id);
        accepted = [id];
      }
      const text = decoder.decode(Uint8Array.from(answer));
      const validate = ajv.compile(schema);
      expect(validate(JSON.parse(text)), `${text} ${JSON.stringify(validate.errors)}`).toBe(true);
    }),
    { numRuns: 60, seed: 7 },
  );
});
