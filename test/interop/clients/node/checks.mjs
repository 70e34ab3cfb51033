/** What the scripts have in common: where graft is, and a line of JSON a check for test/interop/clients/run-client.ts. */
import assert from 'node:assert/strict';

export const { BASE_URL, API_KEY, MODEL } = process.env;
/** Beyond the context of 8,192 tokens of one byte each. */
export const TOO_LONG = 'x'.repeat(20_000);
export const CITY = {
  type: 'object',
  properties: { city: { type: 'string' } },
  required: ['city'],
  additionalProperties: false,
};

/** The client has no such thing. */
export class NotThere extends Error {}

/** @returns what `call` fails with. */
export async function fails(call) {
  const failure = await call().then(
    () => null,
    (error) => error,
  );
  assert.ok(failure, 'nothing failed');
  return failure;
}

/** A check that returns a text has passed under the condition that it says. */
export async function run(checks) {
  for (const [check, look] of Object.entries(checks)) {
    let [result, why] = ['ok', ''];
    try {
      why = (await look()) ?? '';
    } catch (error) {
      result = error instanceof NotThere ? 'none' : 'failed';
      why = (result === 'failed' ? String(error) : error.message).slice(0, 600);
    }
    console.log(JSON.stringify({ check, result, why }));
  }
}
