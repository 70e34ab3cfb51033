/** What the engine and the HTTP surface may expect of {@link Grammars}, whatever its workers run on. */
import { afterEach, expect, it } from 'vitest';
import type { RowGrammar } from '../../gpu-origin/engine/ports.ts';
import { MAX_TENANT_WAITING } from '../../gpu-origin/grammar/compiled-grammars.ts';
import { GrammarService } from '../../gpu-origin/grammar/grammar-service.ts';
import type { AskedForm, GrammarCaller, StartGrammarWorker } from '../../gpu-origin/grammar/ports.ts';
import { BYTE_TOKENS, END } from '../gpu-origin/grammar/byte-core.ts';

const asking = (grammar: string): AskedForm => ({
  constraint: { constraint: { kind: 'grammar', grammar }, path: ['guided_grammar'] },
  tools: null,
});

const caller = (tenant = 't'): GrammarCaller => ({ tenant, signal: new AbortController().signal });

const allowed = ({ mask }: RowGrammar): string =>
  Array.from({ length: END + 1 }, (_, id) => id)
    .filter((id) => (mask[id >> 5]! >>> (id & 31)) & 1)
    .map((id) => (id === END ? '$' : String.fromCharCode(id)))
    .join('');

const code = (character: string): number => character.charCodeAt(0);

export function grammarsContract(startWorker: StartGrammarWorker): void {
  const services: GrammarService[] = [];
  const faults: unknown[] = [];
  const service = (start: StartGrammarWorker = startWorker): GrammarService => {
    const made = new GrammarService({
      startWorker: start,
      tokens: BYTE_TOKENS,
      now: () => 0,
      onFault: (_where, error) => faults.push(error),
    });
    services.push(made);
    return made;
  };
  const open = async (grammars: GrammarService, ebnf: string): Promise<RowGrammar> => {
    const grammar = await grammars.prepare({ asked: asking(ebnf), caller: caller() });
    if (!grammar.ok) throw new Error(grammar.error.message);
    const row = grammar.value.open();
    grammar.value.release();
    return row;
  };

  afterEach(async () => {
    for (const made of services.splice(0)) await made.close();
    faults.length = 0;
  });

  it('says what may come next, and the end exactly where it may', async () => {
    const grammars = service();
    const row = await open(grammars, 'root ::= "a" [bc] "d"?');
    await updated(grammars, [row]);
    expect(allowed(row)).toBe('a');
    row.accept(code('a'));
    await updated(grammars, [row]);
    expect(allowed(row)).toBe('bc');
    row.accept(code('c'));
    await updated(grammars, [row]);
    expect(allowed(row)).toBe('d$');
    expect(row.failure).toBeNull();
  });

  it('keeps the rows of one grammar apart, and those of others', async () => {
    const grammars = service();
    const [one, two, other] = [
      await open(grammars, 'root ::= "ab"'),
      await open(grammars, 'root ::= "ab"'),
      await open(grammars, 'root ::= "xy"'),
    ];
    await updated(grammars, [one, two, other]);
    one.accept(code('a'));
    other.accept(code('x'));
    await updated(grammars, [other, one, two]);
    expect([one, two, other].map(allowed)).toEqual(['b', 'a', 'y']);
    two.close();
    await updated(grammars, [one]);
    expect(allowed(one)).toBe('b');
  });

  it('refuses what does not compile, and goes on', async () => {
    const grammars = service();
    const row = await open(grammars, 'root ::= "ab"');
    const refused = await grammars.prepare({ asked: asking('root ::= ('), caller: caller() });
    expect(refused).toMatchObject({
      error: {
        code: 'invalid_request',
        param: 'guided_grammar',
        message: expect.stringContaining('line 1') as string,
      },
    });
    await updated(grammars, [row]);
    expect(allowed(row)).toBe('a');
    const [fresh] = await updated(grammars, [await open(grammars, 'root ::= "c"')]);
    expect(allowed(fresh!)).toBe('c');
  });

  it('ends a row whose grammar has no way on, and no other', async () => {
    const grammars = service();
    const stuck = await open(grammars, 'root ::= "a" r\nr ::= r "b"');
    const row = await open(grammars, 'root ::= "cd"');
    await updated(grammars, [stuck, row]);
    for (const one of [stuck, row])
      one.accept(one.mask.findIndex((word) => word !== 0) === 3 ? code(allowed(one)) : 0);
    await updated(grammars, [stuck, row]);
    expect(stuck.failure).toMatchObject({ code: 'invalid_request' });
    expect([row.failure, allowed(row)]).toEqual([null, 'd']);
  });

  it('keeps a grammar that takes long to compile to itself', async () => {
    const grammars = service(slowly(startWorker));
    const rows = [await open(grammars, 'root ::= "ab"'), await open(grammars, 'root ::= "xy"')];
    await updated(grammars, rows);
    expect(rows.map(allowed)).toEqual(['a', 'x']);
    const third = await open(grammars, 'root ::= "z"');
    const full = await grammars.prepare({ asked: asking('root ::= "q"'), caller: caller() });
    expect(full).toMatchObject({ error: { code: 'queue_full' } });
    third.close();
    await updated(grammars, [await open(grammars, 'root ::= "q"'), ...rows]);
    expect(rows.map(allowed)).toEqual(['a', 'x']);
  });

  it('lets a tenant wait with as many as it may, and others beside', async () => {
    const grammars = service();
    const ask = (ebnf: string, tenant: string) =>
      grammars.prepare({ asked: asking(ebnf), caller: caller(tenant) });
    const mine = Array.from({ length: MAX_TENANT_WAITING + 1 }, (_, at) =>
      ask(`root ::= "${at === 0 ? 'a' : at}"`, 'one'),
    );
    const other = ask('root ::= "f"', 'two');
    const again = ask('root ::= "a"', 'two');
    const outcomes = await Promise.all(mine);
    expect(outcomes.map(({ ok }) => ok)).toEqual([...outcomes.keys()].map((at) => at < MAX_TENANT_WAITING));
    expect(outcomes[MAX_TENANT_WAITING]).toMatchObject({ error: { code: 'queue_full' } });
    expect([(await other).ok, (await again).ok]).toEqual([true, true]);
  });
}

async function updated(grammars: GrammarService, rows: RowGrammar[]): Promise<RowGrammar[]> {
  await Promise.all(grammars.update(rows).map(({ done }) => done));
  return rows;
}

/** As the workers are, but everything is said to have taken a second and a half to compile. */
const slowly =
  (start: StartGrammarWorker): StartGrammarWorker =>
  async (params) => {
    const worker = await start(params);
    const compile: typeof worker.compile = async (...asked) => {
      const compiled = await worker.compile(...asked);
      return compiled.kind === 'compiled' ? { ...compiled, ms: 1_500 } : compiled;
    };
    return new Proxy(worker, {
      get: (_, key) => {
        const value: unknown = key === 'compile' ? compile : Reflect.get(worker, key);
        return typeof value === 'function' ? (value.bind(worker) as unknown) : value;
      },
    });
  };
