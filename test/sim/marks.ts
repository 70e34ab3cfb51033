/**
 * Rare branches of the product that random exploration should reach. They are counted by a statement that is put behind
 * a line while the product is bundled for a simulated world; the product itself does not have them.
 */

export interface Mark {
  readonly mark: string;
  /** What has happened there. */
  readonly when: string;
  /** Below the checkout's root. */
  readonly file: string;
  /** A whole line, with its indentation, that occurs once in the file. */
  readonly after: string;
  /** Condition under which it counts; always unless given. */
  readonly if?: string;
}

export const MARKS: readonly Mark[] = [
  {
    mark: 'pointer-write-gave-up',
    when: 'KV refused, or a write hung past 8 s: the caller gets 503, the alarm repeats',
    file: 'worker/registry/pointer-writer-object.ts',
    after: "      const reason = error instanceof Error ? error.message : 'unknown error';",
  },
  {
    mark: 'pointer-alarm-repeats',
    when: 'an object makes up for a write that failed or was cut off with it',
    file: 'worker/registry/pointer-writer-object.ts',
    after: '      const again = noted?.again ?? -Infinity;',
    if: 'again <= this.#now()',
  },
  {
    mark: 'late-write-landed',
    when: 'a write that had been given up landed after all, and the record is written again',
    file: 'worker/registry/pointer-writer-object.ts',
    after: '            landed.add(record);',
  },
  {
    mark: 'record-written-twice',
    when: 'a write failed, or its object ended: the record is written again when that cannot land any more',
    file: 'worker/registry/pointer-writer-object.ts',
    after: '    const manner = { mark: true, erased: erased || !mark };',
  },
  {
    mark: 'overtaken-erasure',
    when: '… and meanwhile the name was erased: a mark is written over it',
    file: 'worker/registry/pointer-writer-object.ts',
    after: '    const { pointer, change } = await registry.pointerToWrite(name);',
    if: "afterLate && pointer.kind === 'none'",
  },
  {
    mark: 'stale-pointer-written',
    when: 'the schedule or a fresh isolate writes what a dead one left',
    file: 'worker/registry/write-pointer.ts',
    after: '    const page = stale.slice(at, at + STALE_POINTERS_AT_ONCE);',
  },
  {
    mark: 'change-repeated-before-served',
    when: 'a client repeats a change that KV has not been told of',
    file: 'worker/registry/go-live.ts',
    after: '  if (change === null) return null;',
  },
  {
    mark: 'parent-lost-during-trial',
    when: 'the parent was retired or removed while an origin tried the chain',
    file: 'worker/registry/publish-version.ts',
    after: '  if (row !== null && row.retiredAt === null && row.withdrawnAt === null) return null;',
  },
  {
    mark: 'change-overtaken',
    when: 'a transaction failed on its history row or a guard: a concurrent change, or an erasure, was first',
    file: 'worker/registry/d1-registry-changes.ts',
    after: '      if (!isUniqueViolation(error)) throw error;',
  },
  {
    mark: 'last-known-good-served',
    when: 'an isolate answers from what it knew',
    file: 'worker/platform/kv-cache.ts',
    after: '      const last = known.get(key);',
    if: 'last !== undefined',
  },
  {
    mark: 'read-overtaken-by-a-write',
    when: 'a read that began before a write here came back after it, and is not cached',
    file: 'worker/platform/kv-cache.ts',
    after: '    missing.delete(key);',
    if: 'writes !== before',
  },
  {
    mark: 'rotation-repeated-after-its-end',
    when: 'a rotation is asked for again when the old key is over: KV is told once more',
    file: 'worker/access/keys-routes.ts',
    after: '      await index(old);',
  },
  {
    mark: 'erased-origins-asked-again',
    when: 'an origin was away when its files were to be dropped',
    file: 'worker/erasure/erase-steps.ts',
    after:
      '  const asked: Worked = { erasure, erased: NOTHING, kept: { files: 0, bytes: 0 }, unreached: [] };',
  },
  {
    mark: 'erasure-continued-by-the-schedule',
    when: 'the client of an erasure has gone in the middle',
    file: 'worker/erasure/erase-steps.ts',
    after: '  if (next !== null) await workOff(deps, next, { pages: SCHEDULED_PAGES, at: 0 });',
    if: 'next !== null',
  },
  {
    mark: 'upload-closed-into-an-erasure',
    when: 'a file was erased between its record and its holder',
    file: 'worker/blobs/stored-file.ts',
    after: '    await blobs.delete(digest);',
  },
  {
    mark: 'failover-before-first-byte',
    when: 'the next origin is asked',
    file: 'worker/origins/send.ts',
    after: '      tried.push(origin.id);',
  },
  {
    mark: 'hanging-origin-given-up',
    when: 'no sign of life for 10 s',
    file: 'worker/origins/send.ts',
    after: '        if (await isAlive(origin, since)) continue;',
  },
  {
    mark: 'refused-by-a-full-origin',
    when: '429 of one origin, and another is asked',
    file: 'worker/origins/send.ts',
    after: '    if (!tooSmall) health.full(origin);',
  },
  {
    mark: 'signed-for-this-start',
    when: 'an origin with a clock ahead was started anew',
    file: 'worker/origins/connection.ts',
    after: '      starts.set(origin.id, told);',
  },
  {
    mark: 'stream-stalled',
    when: 'no byte for 25 s in the middle of a stream',
    file: 'worker/origins/connection.ts',
    after: '    silent = true;',
  },
  {
    mark: 'stream-broke-off',
    when: 'the client gets an error event',
    file: 'worker/origins/connection.ts',
    after: "        logLine('stream_cut', { origin: origin.id, request_id: call.requestId });",
  },
  {
    mark: 'transfer-shared',
    when: 'two requests of an isolate wait for one transfer',
    file: 'worker/origins/transfers.ts',
    after: '        while (isMoving() && now() < options.until) await sleep(LOAD_POLL_MS);',
  },
  {
    mark: 'transfer-resumed',
    when: 'an origin has some of the parts already',
    file: 'worker/origins/transfers.ts',
    after: '    const wanted = await missingParts(announced.value);',
    if: 'wanted !== null && wanted.size > 0 && wanted.size < record.parts.length',
  },
  {
    mark: 'unpinning-unheard',
    when: 'an origin was not told what to unpin',
    file: 'worker/origins/pins.ts',
    after: "        logLine('not_unpinned', { origin: origin.id, reason });",
  },
  {
    mark: 'refused-by-one-counter',
    when: 'key and tenant are asked, and a request that one of them refuses counts in neither',
    file: 'worker/metering/quota-state.ts',
    after: '  const refusals = asked.map(({ state, limits }) => (isKnown ? null : refusal(state, limits)));',
    if: 'refusals.length > 1 && refusals.some((refused) => refused !== null)',
  },
  {
    mark: 'lease-forgotten',
    when: 'a request ends whose counter has restarted and forgotten its beginning',
    file: 'worker/metering/quota-state.ts',
    after: '  if (!state.leases.delete(ask.lease) && ask.again) return;',
    if: 'begun === undefined',
  },
  {
    mark: 'counts-taken-before',
    when: 'a gatherer had taken a batch whose answer was lost',
    file: 'worker/gathering/gatherer-object.ts',
    after: '    const { sender, number } = batch;',
    if: 'number <= (this.#open().get(sender) ?? 0)',
  },
  {
    mark: 'gatherer-write-repeated',
    when: 'a write to D1 had failed, or its gatherer ended in the middle of it',
    file: 'worker/gathering/gatherer-object.ts',
    after: '    const begun = this.#begun();',
    if: 'begun !== null',
  },
  {
    mark: 'usage-batch-known',
    when: 'D1 had committed a batch whose answer was lost',
    file: 'worker/metering/d1-usage.ts',
    after: '        if (!isUniqueViolation(error)) throw error;',
  },
  {
    mark: 'job-begun-elsewhere',
    when: 'an origin was silent for half an hour (here two minutes): its job is given to another',
    file: 'worker/training/advance-jobs.ts',
    after: "      : 'The origin no longer answers. The job begins again elsewhere.';",
    if: "answer.kind !== 'refused'",
  },
  {
    mark: 'job-offered-again',
    when: 'the origin that was to take a job has no room for it',
    file: 'worker/training/advance-jobs.ts',
    after: "  if (answer.kind === 'refused' && job.startedAt !== null && !isLost) return;",
    if: "answer.kind === 'refused'",
  },
  {
    mark: 'job-left-behind',
    when: 'a job was cancelled or erased while its origin was given it',
    file: 'worker/training/advance-jobs.ts',
    after: '  const now = await trainingJobs.get({ id, tenant });',
    if: 'now?.origin !== origin',
  },
  {
    mark: 'rows-gone-before-they-were-sent',
    when: 'the file of a job was deleted before an origin had it',
    file: 'worker/training/advance-jobs.ts',
    after: '    const file = await rowFiles.get({ id: sent.file, tenant, now: now() });',
    if: 'file === null',
  },
  {
    mark: 'result-part-known',
    when: 'a result is fetched once more, and some of it is in the store already',
    file: 'worker/training/advance-jobs.ts',
    after: '    if (known?.stored === true && known.bytes === length) {',
  },
  {
    mark: 'result-published-before',
    when: 'a result was published, and the end of its job was not recorded',
    file: 'worker/training/advance-jobs.ts',
    after: '  const before = await pageUploads.versionOf(token);',
    if: 'before !== null',
  },
  {
    mark: 'job-deletion-unheard',
    when: 'an origin was away when it was to delete a job',
    file: 'worker/training/advance-jobs.ts',
    after: '      if (gone) await trainingJobs.deleted(one);',
    if: '!gone',
  },
  {
    mark: 'rows-kept-over-a-restart',
    when: 'an origin ended while it was sent rows, and has some of them',
    file: 'gpu-origin/jobs/job-store.ts',
    after: "  const adapters = new Set(await namesIn(join(folder, 'chain')));",
    if: 'parts.size > 0',
  },
  {
    mark: 'result-kept-over-a-restart',
    when: 'an origin ended between a training and the publication of its result',
    file: 'gpu-origin/jobs/jobs.ts',
    after: '    for (const stored of store.found) this.#jobs.set(stored.id, readStored(stored, now()));',
    if: "store.found.some(({ record }) => record.end?.state === 'done')",
  },
  {
    mark: 'training-goes-on',
    when: 'from its checkpoint: it was paused, or its origin ended',
    file: 'gpu-origin/jobs/jobs.ts',
    after: '    const resume = store.hasCheckpoint(job.id);',
    if: 'resume',
  },
  {
    mark: 'paused-training-resumed',
    when: 'its owner wants it to go on, and its origin is free',
    file: 'gpu-origin/jobs/jobs.ts',
    after: "      this.#tell(job, 'info', 'Resumed.');",
  },
  {
    mark: 'training-started-again',
    when: 'its process died',
    file: 'gpu-origin/jobs/jobs.ts',
    after: "    this.#tell(job, 'warn', 'The training ended unexpectedly. It is started again.');",
  },
  {
    mark: 'training-loses-its-chain',
    when: 'an adapter that it trains on is erased meanwhile',
    file: 'gpu-origin/jobs/jobs.ts',
    after: "          running.why = 'dropped';",
  },
  {
    mark: 'training-ended-with-its-job',
    when: 'the job is cancelled or erased, or its key ends, while it runs',
    file: 'gpu-origin/jobs/jobs.ts',
    after: '      running.training.kill();',
  },
  {
    mark: 'upload-started-over',
    when: 'the same file is announced in other parts, and the first sender is gone',
    file: 'gpu-origin/adapter-files/adapter-store.ts',
    after: '      const place = join(incoming, `${Digest.parse(digest)}.${random()}`);',
    if: 'current !== undefined',
  },
  {
    mark: 'part-taken-from-the-next-sender',
    when: 'a sender has been silent for 5 s',
    file: 'gpu-origin/adapter-files/adapter-store.ts',
    after: "    if (this.state(index) === 'receiving' && this.isBusy(now)) return null;",
    if: "this.state(index) === 'receiving'",
  },
  {
    mark: 'upload-dropped-under-way',
    when: 'an adapter was dropped (erased) while a part came',
    file: 'gpu-origin/adapter-files/adapter-store.ts',
    after: "      upload.end(i, attempt, received.ok ? 'held' : 'missing', now());",
    if: '!isCurrent()',
  },
  {
    mark: 'damaged-file-discarded',
    when: 'a flipped bit on the disk: the file is sent again',
    file: 'gpu-origin/adapter-files/adapter-store.ts',
    after: '    if ((await sha256Hex(file)) !== digest) {',
  },
  {
    mark: 'upload-resumed-after-restart',
    when: 'an origin was killed in the middle of an upload',
    file: 'gpu-origin/adapter-files/adapter-store.ts',
    after: '    else uploads.set(digest, upload);',
    if: '!useless',
  },
  {
    mark: 'disk-refused',
    when: 'a full disk',
    file: 'gpu-origin/adapter-files/disk-room.ts',
    after: '    this.#refusals += 1;',
  },
  {
    mark: 'row-preempted',
    when: 'a row makes room for another tenant',
    file: 'gpu-origin/engine/model-executor.ts',
    after: "      sequence.become('preempted');",
  },
  {
    mark: 'preempted-row-restored',
    when: '… and returns',
    file: 'gpu-origin/engine/model-executor.ts',
    after: '      this.#scheduler.drop(sequence);',
  },
  {
    mark: 'preempted-row-ended',
    when: '… or is aborted, or passes its deadline, while it is out',
    file: 'gpu-origin/engine/kv-cache-manager.ts',
    after: '      this.#runner.release(place);',
  },
  {
    mark: 'adapters-wait-for-memory',
    when: 'a request finds no room for its adapters and is overtaken',
    file: 'gpu-origin/engine/model-executor.ts',
    after: '        blocked ??= sequence;',
  },
  {
    mark: 'row-waits-for-memory',
    when: 'a row finds no memory in the batch',
    file: 'gpu-origin/engine/scheduler.ts',
    after: '      passed ??= sequence;',
  },
  {
    mark: 'aborted-while-loading',
    when: 'a client leaves while its adapters load',
    file: 'gpu-origin/engine/engine.ts',
    after: "      const outcome = sequence.state === 'loading' ? sequence.lease?.outcome : undefined;",
    if: "sequence.abortWanted && sequence.state === 'loading'",
  },
  {
    mark: 'adapter-dropped-in-use',
    when: 'an erasure meets a row that uses the adapter',
    file: 'gpu-origin/engine/adapters/adapter-cache.ts',
    after: '      this.#dropped.add(entry);',
    if: 'isHeld(entry)',
  },
  {
    mark: 'cancel-overtook-its-request',
    when: "the edge's cancellation arrives first",
    file: 'gpu-origin/http/run-prompts.ts',
    after: '      this.#note(id, kid, { open: 0, cancel: nothing, cancelled: true }).endedAt = this.#now();',
  },
  {
    mark: 'replay-refused',
    when: 'a request arrived twice',
    file: 'gpu-origin/http/read-request.ts',
    after: '  const problem = checked.error;',
    if: "problem.kind === 'replayed'",
  },
];
