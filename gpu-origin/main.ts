/** Composition root of the origin: configuration, HTTP, then everything that takes long to load. */
import { setTimeout as sleep } from 'node:timers/promises';
import { HELP, ConfigError, readConfig, type Config } from './config.ts';
import { createApp, standaloneMode } from './http/app.ts';
import { drain, Serving, listen } from './http/serve.ts';
import { createMetrics } from './http/metrics.ts';
import type { OriginContext } from './http/origin-context.ts';
import { UsageMemory } from './http/run-prompts.ts';
import { Activity } from './jobs/give-way.ts';
import { loadJobs } from './load-jobs.ts';
import { loadServices } from './load-services.ts';
import { Tracer } from './tracing/tracer.ts';
import { readTracingConfig, TracingConfigError } from './tracing/tracing-config.ts';
import { systemClock } from './runtime/device.ts';
import {
  both,
  createLogLine,
  createRequestLog,
  createSignatureLog,
  progressReporter,
  watchEventLoop,
} from './log.ts';
import type { ChainEntry } from '../protocol/identity.ts';
import { newStartId } from '../protocol/signature.ts';

const note = (message: string): boolean => process.stderr.write(`${message}\n`);
/** One line of JSON on stdout, for the parent process. */
const tell = (event: string, fields: object): boolean =>
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

async function run(config: Config): Promise<void> {
  const startedAt = Date.now();
  const serving = new Serving();
  const metrics = createMetrics();
  const tracing = readTracingConfig(process.env, config.mode.kind === 'signed' ? config.mode.originId : null);
  const chains = new Map<string, readonly ChainEntry[]>();
  const log = createLogLine(note);
  const onFault = (where: string, error: unknown, requestIds: readonly string[] = []): void => {
    const stack = error instanceof Error ? error.stack : String(error);
    log('error', 'fault', { where, request_ids: requestIds, stack });
  };
  const tracer =
    tracing === null
      ? null
      : new Tracer({
          config: tracing,
          onSpans: metrics.onSpans,
          onTrouble: (reason) => log('error', 'traces_not_sent', { reason }),
        });
  const context: OriginContext = {
    mode:
      config.mode.kind === 'dev'
        ? standaloneMode(chains)
        : { ...config.mode, startedAt, startId: newStartId() },
    serving,
    metrics,
    tracer,
    services: null,
    usage: new UsageMemory(Date.now),
    now: Date.now,
    monotonic: systemClock.now,
    onRefusedSignature: createSignatureLog(log, () => performance.now()),
    metricsToken: config.metricsToken,
    loopbackOnly: config.loopbackOnly,
    onFault: (where, error) => {
      metrics.observer.onFault?.({ where: 'http', error, requestIds: [] });
      onFault(where, error);
    },
  };
  // First, so that a taken port is reported before the base is loaded.
  const { url, server, connections } = await listen({
    app: createApp(context),
    host: config.host,
    port: config.port,
  });

  let stopping = false;
  const stop = (): void => {
    if (stopping || context.services === null) process.exit(stopping ? 1 : 0);
    stopping = true;
    const began = Date.now();
    log('info', 'draining', { in_flight: serving.inFlight });
    // It saves a checkpoint while requests end; the next start goes on with it.
    const halted = context.jobs?.halt();
    drain({
      serving,
      server,
      connections,
      graceMs: config.graceMs,
      abortAll: () => services.engine.close(),
      sleep,
    })
      .then(() => halted)
      .then(() => Promise.all([services.close(), tracer?.close()]))
      .catch((error: unknown) => onFault('shutdown', error))
      .finally(() => {
        log('info', 'ended', { ms: Date.now() - began });
        process.exit(0);
      });
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);

  const activity = new Activity({
    now: () => performance.now(),
    timer: (ms, callback) => setTimeout(callback, ms).unref(),
  });
  const services = await loadServices({
    config,
    observer: {
      ...both(metrics.observer, createRequestLog(log, config.logSample)),
      onStep(step) {
        metrics.observer.onStep?.(step);
        activity.onStep();
      },
      onFault(fault) {
        metrics.observer.onFault?.(fault);
        onFault(fault.where, fault.error, fault.requestIds);
      },
    },
    onProgress: progressReporter({
      stderr: process.stderr,
      onPercent: (what, percent) => tell('progress', { what, percent }),
    }),
    onNotice: note,
    onProvider(message) {
      note(message);
      tell('provider', { message });
    },
    onDiskRefusal: ({ code, freeBytes, usedBytes }) =>
      log('error', 'disk_refused', { code, free_bytes: freeBytes, adapter_bytes: usedBytes }),
  });
  for (const [name, chain] of services.chains) chains.set(name, chain);
  context.jobs = await loadJobs({
    config,
    services,
    activity,
    onEnd(id, outcome) {
      metrics.onJobEnd(outcome);
      log('info', 'job_ended', { job: id, outcome });
    },
    onTrouble: (id, code, reason) => log('error', 'training_failed', { job: id, code, reason }),
    onFault: (error) => context.onFault('jobs', error),
  });
  context.services = services;
  metrics.watch(services.engine, services.files.disk);
  metrics.watchJobs(() => context.jobs?.running ?? 0);
  serving.ready();
  context.jobs?.begin();
  // Loading blocks nothing.
  watchEventLoop(log, {
    timer: (ms, callback) => void setInterval(callback, ms).unref(),
    now: () => performance.now(),
  });
  note(`serving ${services.base.id} (${services.base.weights}) on ${url}`);
  tell('ready', { url, base: services.base.id });
}

function fail(error: unknown): never {
  // A plain Error is a bug and needs its stack; the others have messages for the operator.
  const known = error instanceof Error && !['Error', 'TypeError', 'RangeError'].includes(error.name);
  note(`gpu-origin: ${known ? error.message : error instanceof Error ? error.stack : String(error)}`);
  process.exit(error instanceof ConfigError || error instanceof TracingConfigError ? 2 : 1);
}

try {
  const config = readConfig(process.argv.slice(2), process.env);
  if (config === null) process.stdout.write(HELP);
  else await run(config);
} catch (error) {
  fail(error);
}
