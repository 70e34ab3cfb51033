import { describe, expect, it } from 'vitest';
import { GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import { collect, gate, generate, rig, start, until } from './harness.ts';

const sampling = (maxTokens: number) => ({ ...GREEDY, maxTokens, ignoreEos: true });

describe('adapters', () => {
  it('change the tokens; order, scale and members count', async () => {
    const { engine, adapter } = rig();
    const [a, b] = [await adapter('a'), await adapter('b')];
    const chains = [[], [a], [b], [a, b], [b, a], [{ ...a, scale: 0.5 }], [a, a]];
    const answers = await Promise.all(chains.map((chain) => generate(engine, { chain })));
    expect(new Set(answers.map((answer) => answer.text)).size).toBe(chains.length);
    const again = await Promise.all(chains.map((chain) => generate(engine, { chain })));
    expect(again.map((answer) => answer.ids)).toEqual(answers.map((answer) => answer.ids));
  });

  it('are read once for many requests, and stay', async () => {
    const { engine, adapter, source } = rig();
    const chain = [await adapter('a')];
    await Promise.all(Array.from({ length: 40 }, () => generate(engine, { chain })));
    await generate(engine, { chain });
    expect(source.reads).toBe(1);
    expect(engine.residents().adapters).toMatchObject([
      { state: 'ready', references: 0, bytes: 1_000, rank: 8 },
    ]);
  });

  it('load without holding up decoding rows', async () => {
    const hold = gate();
    const { engine, adapter, runner } = rig({ runner: { duringLoad: () => hold.opened } });
    const waiting = await start(engine, { chain: [await adapter('slow')] });
    const answers = await Promise.all([generate(engine), generate(engine)]);
    for (const answer of answers) expect(answer.final.kind).toBe('end');
    expect(engine.stats()).toMatchObject({ loading: 1, waiting: 0, running: 0 });
    expect(engine.residents().adapters).toMatchObject([{ state: 'loading', references: 1 }]);
    hold.open();
    expect((await collect(waiting)).final.kind).toBe('end');
    expect(runner.misuses).toEqual([]);
  });

  it('that are dropped end with their row; one that is sent again is kept', async () => {
    const { engine, adapter, source } = rig();
    const [a, b] = [await adapter('a'), await adapter('b')];
    await generate(engine, { chain: [b] });
    const running = await start(engine, { chain: [a], sampling: sampling(8) });
    await until(() => engine.stats().running === 1);
    const digests = new Set([a.digest, b.digest]);
    const files = new Map(source.files);
    for (const digest of digests) source.files.delete(digest);
    expect(await engine.drop(digests)).toBe(1);
    expect(await engine.check([a.digest])).toMatchObject({ code: 'adapter_missing', missing: [a.digest] });
    expect((await collect(running)).final.kind).toBe('end');
    await until(() => engine.residents().adapters.length === 0);

    source.files.set(a.digest, files.get(a.digest)!);
    const kept = await start(engine, { chain: [a], sampling: sampling(8) });
    await until(() => engine.stats().running === 1);
    await engine.drop(digests);
    expect(await engine.check([a.digest])).toBeNull();
    await collect(kept);
    expect(engine.residents().adapters).toMatchObject([{ digest: a.digest, state: 'ready' }]);
  });

  it('that fail fail their own requests, and are tried again later', async () => {
    const { engine, adapter, source, clock } = rig();
    const [good, bad] = [await adapter('good'), await adapter('bad')];
    source.files.set(bad.digest, new Uint8Array(0));
    const [fine, broken, chained] = await Promise.all([
      generate(engine, { chain: [good] }),
      generate(engine, { chain: [bad] }),
      generate(engine, { chain: [good, bad] }),
    ]);
    expect(fine.final.kind).toBe('end');
    for (const { final } of [broken, chained])
      expect(final).toMatchObject({ error: { code: 'adapter_invalid', reason: 'truncated_file' } });
    // Whichever was read first.
    const { adapters } = engine.residents();
    expect(adapters).toHaveLength(2);
    expect(adapters.find(({ digest }) => digest === good.digest)).toMatchObject({ state: 'ready' });
    expect(adapters.find(({ digest }) => digest === bad.digest)).toMatchObject({
      state: 'failed',
      references: 0,
    });

    source.files.set(bad.digest, Uint8Array.of(1));
    const { reads } = source;
    expect((await generate(engine, { chain: [bad] })).final.kind).toBe('error');
    expect(source.reads).toBe(reads);
    clock.advance(1_000);
    expect((await generate(engine, { chain: [bad] })).final.kind).toBe('end');
  });

  it('that vanish between the check and the read are missing; a broken source is unavailable', async () => {
    const faults: unknown[] = [];
    const { engine, adapter, source } = rig({ observer: { onFault: ({ error }) => faults.push(error) } });
    const [gone, unreadable] = [await adapter('gone'), await adapter('unreadable')];
    source.files.set(gone.digest, null);
    expect((await generate(engine, { chain: [gone] })).final).toMatchObject({
      error: { code: 'adapter_missing', missing: [gone.digest] },
    });
    // Sent again at once, it is served at once.
    await adapter('gone');
    expect((await generate(engine, { chain: [gone] })).final.kind).toBe('end');
    source.read = () => Promise.reject(new Error('EIO /secret/path'));
    const { final } = await generate(engine, { chain: [unreadable] });
    expect(final).toMatchObject({ error: { code: 'adapter_unavailable' } });
    expect(JSON.stringify(final)).not.toContain('secret');
    expect(faults).toHaveLength(1);
  });

  it('whose ranks add up to too much are refused', async () => {
    const { engine, adapter } = rig({ runner: { maxRankSum: 16 } });
    const [a, b, c] = [await adapter('a'), await adapter('b'), await adapter('c')];
    expect((await generate(engine, { chain: [a, b] })).final.kind).toBe('end');
    expect((await generate(engine, { chain: [a, b, c] })).final).toMatchObject({
      error: { code: 'adapter_invalid', reason: 'rank_sum_exceeded' },
    });
  });

  it('are evicted in order of use, except pinned and running ones', async () => {
    const evicted: string[] = [];
    const { engine, adapter, runner } = rig({
      adapterBudgetBytes: 3_000,
      observer: { onAdapterEvict: ({ digest }) => evicted.push(digest) },
    });
    const names = ['a', 'b', 'c', 'd', 'e'];
    const entries = await Promise.all(names.map((name) => adapter(name)));
    const [a, b, c, d, e] = entries;
    expect((await engine.prefetch(a!.digest, { pinned: true })).ok).toBe(true);
    for (const entry of [b!, c!, b!]) await generate(engine, { chain: [entry] });
    await generate(engine, { chain: [d!] });
    expect(evicted).toEqual([c!.digest]);
    const running = await start(engine, { chain: [b!], sampling: sampling(60) });
    await until(() => engine.stats().running === 1);
    await generate(engine, { chain: [e!] });
    expect(evicted).toEqual([c!.digest, d!.digest]);
    await collect(running);
    expect(engine.residents().used_bytes).toBeLessThanOrEqual(3_000);
    expect(runner.loaded.map((adapter) => adapter.digest)).toContain(a!.digest);
    expect(runner.misuses).toEqual([]);
  });

  it('wait for room instead of exceeding the budget, and all get their turn', async () => {
    let most = 0;
    const { engine, adapter, runner } = rig({
      adapterBudgetBytes: 2_000,
      runner: { slots: 4 },
      observer: { onStep: () => (most = Math.max(most, engine.residents().used_bytes)) },
    });
    const entries = await Promise.all(Array.from({ length: 12 }, (_, index) => adapter(`n${index}`)));
    // Once one was loaded its size is known.
    await generate(engine, { chain: [entries[0]!] });
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, index) => generate(engine, { chain: [entries[(index * 7) % 12]!] })),
    );
    for (const answer of answers) expect(answer.final.kind).toBe('end');
    expect(most).toBeLessThanOrEqual(2_000);
    expect(runner.misuses).toEqual([]);
  });

  it('one that needs more than the budget alone is served alone', async () => {
    const { engine, adapter } = rig({ adapterBudgetBytes: 500 });
    expect((await generate(engine, { chain: [await adapter('big')] })).final.kind).toBe('end');
    await until(() => engine.residents().used_bytes === 0);
  });

  it('are not starved by resident ones', async () => {
    const { engine, adapter } = rig({ adapterBudgetBytes: 2_000, runner: { slots: 2 } });
    const [hot, warm, cold] = [await adapter('hot'), await adapter('warm'), await adapter('cold')];
    await Promise.all([generate(engine, { chain: [hot] }), generate(engine, { chain: [warm] })]);
    let stop = false;
    let served = 0;
    const traffic = Array.from({ length: 24 }, async (_, index) => {
      const entry = index % 2 === 0 ? hot : warm;
      while (!stop) {
        await generate(engine, { chain: [entry], tenant: entry.digest, sampling: sampling(3) });
        served += 1;
      }
    });
    await until(() => served > 60);
    const handle = await start(engine, { chain: [cold] });
    const before = served;
    expect((await collect(handle)).final.kind).toBe('end');
    // Four may pass it, four more held their adapters already, two were running, and some end beside it.
    expect(served - before).toBeLessThanOrEqual(24);
    stop = true;
    await Promise.all(traffic);
  });

  it('get room when their holder fails before it ran', async () => {
    const hold = gate();
    const { engine, adapter, source } = rig({
      adapterBudgetBytes: 1_000,
      runner: { duringLoad: (digest) => (digest === bad.digest ? hold.opened : Promise.resolve()) },
    });
    const [a, bad, c] = [await adapter('a'), await adapter('bad'), await adapter('c')];
    source.files.set(bad.digest, new Uint8Array(0));
    await generate(engine, { chain: [a] });
    const failing = await start(engine, { chain: [a, bad] });
    const waiting = await start(engine, { chain: [c] });
    await until(() => engine.stats().loading === 1);
    expect(engine.stats().waiting).toBe(1);
    hold.open();
    expect((await collect(failing)).final.kind).toBe('error');
    expect((await collect(waiting)).final.kind).toBe('end');
  });

  it('prefetch reports errors', async () => {
    const { engine } = rig();
    expect(await engine.prefetch('d'.repeat(64))).toMatchObject({
      ok: false,
      error: { code: 'adapter_missing' },
    });
  });

  it('pins nothing that failed', async () => {
    const { engine, adapter } = rig();
    const missing = 'd'.repeat(64);
    for (let attempt = 0; attempt < 2; attempt += 1) {
      expect(await engine.prefetch(missing, { pinned: true })).toMatchObject({ ok: false });
      expect(engine.residents().adapters).toMatchObject([{ state: 'failed', pinned: false }]);
    }
    const { digest } = await adapter('a');
    expect((await engine.prefetch(digest, { pinned: true })).ok).toBe(true);
    expect(engine.residents().adapters.at(-1)).toMatchObject({ digest, state: 'ready', pinned: true });
  });

  it('pins at most half of its memory, and frees unpinned ones for others', async () => {
    const evicted: string[] = [];
    const { engine, adapter } = rig({
      adapterBudgetBytes: 4_000,
      observer: { onAdapterEvict: ({ digest }) => evicted.push(digest) },
    });
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    const [a, b, c, d, e, f] = await Promise.all(names.map((name) => adapter(name)));
    const pin = (entry: typeof a) => engine.prefetch(entry!.digest, { pinned: true });
    expect(await Promise.all([pin(a), pin(b)])).toMatchObject([{ ok: true }, { ok: true }]);
    // A third would leave too little for everybody else: loaded, ready to be asked, and not pinned.
    expect(await pin(c)).toMatchObject({ ok: false, error: { code: 'adapter_unavailable' } });
    expect(await pin(c)).toMatchObject({ ok: false });
    expect(await pin(a)).toMatchObject({ ok: true });
    const pins = () => engine.residents().adapters.flatMap(({ digest, pinned }) => (pinned ? digest : []));
    expect(pins().sort()).toEqual([a!.digest, b!.digest].sort());

    expect(engine.keepPinned(new Set([b!.digest, c!.digest]))).toBe(1);
    expect(pins()).toEqual([b!.digest]);
    expect(await pin(c)).toMatchObject({ ok: true });
    for (const entry of [d!, e!, f!]) await generate(engine, { chain: [entry] });
    expect(evicted).toContain(a!.digest);
    expect(pins().sort()).toEqual([b!.digest, c!.digest].sort());
    expect(engine.keepPinned(new Set())).toBe(2);
    expect(engine.keepPinned(new Set())).toBe(0);
  });

  it('does not load what cannot be pinned each time that it is asked to', async () => {
    const evicted: string[] = [];
    const { engine, adapter, source } = rig({
      adapterBudgetBytes: 4_000,
      observer: { onAdapterEvict: ({ digest }) => evicted.push(digest) },
    });
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    const [a, b, c, ...others] = await Promise.all(names.map((name) => adapter(name)));
    const pin = (entry: typeof a) => engine.prefetch(entry!.digest, { pinned: true });
    for (const entry of [a, b, c]) await pin(entry);
    for (const entry of others) await generate(engine, { chain: [entry] });
    expect(evicted).toContain(c!.digest);
    const { reads } = source;
    expect(await pin(c)).toMatchObject({ ok: false, error: { code: 'adapter_unavailable' } });
    expect(source.reads).toBe(reads);

    engine.keepPinned(new Set([a!.digest, c!.digest]));
    expect(await pin(c)).toMatchObject({ ok: true });
    expect(source.reads).toBe(reads + 1);
  });

  it('an abort while loading lets the load end and forgets the request', async () => {
    const hold = gate();
    const { engine, adapter } = rig({ runner: { duringLoad: () => hold.opened } });
    const entries = await Promise.all(['a', 'b', 'c', 'd'].map((name) => adapter(name)));
    const handles = await Promise.all(entries.map((entry) => start(engine, { chain: [entry] })));
    await until(() => engine.stats().loading === 4);
    for (const handle of handles) handle.abort();
    for (const handle of handles) expect((await collect(handle)).final.kind).toBe('aborted');
    hold.open();
    await until(() => engine.residents().adapters.every((adapter) => adapter.state === 'ready'));
    // The two that were not begun are not read for nobody.
    expect(engine.residents().adapters).toHaveLength(2);
    expect((await generate(engine, { chain: [entries[3]!] })).final.kind).toBe('end');
  });
});
