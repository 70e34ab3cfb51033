/**
 * OpenTelemetry's environment variables, as far as an origin has them: specification/protocol/exporter.md and
 * specification/configuration/sdk-environment-variables.md. Unlike there, a wrong value ends the start: nobody
 * reads a warning before traces are missing.
 */
import { z } from 'zod';
import { OtlpAddress, OtlpHeaders, OtlpPairs, tracesBelow, unset } from '../../protocol/otlp.ts';

/** A wrong variable; the message is for the operator and contains no value that may be secret. */
export class TracingConfigError extends Error {
  override readonly name = 'TracingConfigError';
}

export interface TracingConfig {
  url: string;
  /** May be secret. */
  headers: Readonly<Record<string, string>>;
  /** Of one export, ms. */
  timeoutMs: number;
  /** Of the process. */
  resource: Readonly<Record<string, string>>;
  sampler: Sampler;
  /** The newest names of `gen_ai.*` in the place of those of version 1.36. */
  latestNames: boolean;
  /** Spans that may wait. */
  maxQueue: number;
  maxBatch: number;
  /** Between two exports, ms. */
  delayMs: number;
}

export interface Sampler {
  /** Whether a parent's decision is obeyed. */
  parentBased: boolean;
  /** Share of the traces that begin here, or of all if parents do not count. */
  share: number;
}

/** The longest timer, ms: zero means "no limit" there. */
const NO_TIMEOUT_MS = 2 ** 31 - 1;

const text = z.preprocess(unset, z.string().optional());
const whole = (least: number) => z.coerce.number().int().min(least).max(NO_TIMEOUT_MS);
const number = (least: number, otherwise: number) => z.preprocess(unset, whole(least).default(otherwise));
const onlyJson = z.preprocess(
  unset,
  z
    .literal(
      'http/json',
      'an origin sends http/json alone. Set it to http/json, and the endpoint to the port for HTTP, such as 4318',
    )
    .optional(),
);
const Variables = z.object({
  OTEL_EXPORTER_OTLP_ENDPOINT: OtlpAddress,
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: OtlpAddress,
  OTEL_EXPORTER_OTLP_HEADERS: OtlpHeaders,
  OTEL_EXPORTER_OTLP_TRACES_HEADERS: OtlpHeaders,
  OTEL_EXPORTER_OTLP_TIMEOUT: number(0, 10_000),
  OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: z.preprocess(unset, whole(0).optional()),
  OTEL_EXPORTER_OTLP_PROTOCOL: onlyJson,
  OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: onlyJson,
  OTEL_SERVICE_NAME: text,
  OTEL_RESOURCE_ATTRIBUTES: OtlpPairs,
  OTEL_TRACES_SAMPLER: z.preprocess(
    unset,
    z
      .enum([
        'always_on',
        'always_off',
        'traceidratio',
        'parentbased_always_on',
        'parentbased_always_off',
        'parentbased_traceidratio',
      ])
      .default('parentbased_always_on'),
  ),
  OTEL_TRACES_SAMPLER_ARG: z.preprocess(unset, z.coerce.number().min(0).max(1).default(1)),
  OTEL_SEMCONV_STABILITY_OPT_IN: text,
  OTEL_BSP_MAX_QUEUE_SIZE: number(1, 2_048),
  OTEL_BSP_MAX_EXPORT_BATCH_SIZE: number(1, 512),
  OTEL_BSP_SCHEDULE_DELAY: number(1, 5_000),
});

/**
 * @param instance the origin's id; null without one.
 * @returns null where no traces are wanted: no endpoint is set, or `OTEL_SDK_DISABLED` is `true`.
 * @throws TracingConfigError
 */
export function readTracingConfig(env: NodeJS.ProcessEnv, instance: string | null): TracingConfig | null {
  const isWanted = Boolean(env['OTEL_EXPORTER_OTLP_ENDPOINT'] || env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT']);
  if (!isWanted || env['OTEL_SDK_DISABLED']?.toLowerCase() === 'true') return null;
  // The more specific variable counts, so the other one may be for programs that speak something else.
  const relevant = env['OTEL_EXPORTER_OTLP_TRACES_PROTOCOL']
    ? { ...env, OTEL_EXPORTER_OTLP_PROTOCOL: '' }
    : env;
  const parsed = Variables.safeParse(relevant);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new TracingConfigError(`${issue?.path.join('.')}: ${issue?.message}`);
  }
  const given = parsed.data;
  const own = given.OTEL_EXPORTER_OTLP_TRACES_HEADERS;
  return {
    url: given.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? tracesBelow(given.OTEL_EXPORTER_OTLP_ENDPOINT ?? ''),
    headers: Object.keys(own).length > 0 ? own : given.OTEL_EXPORTER_OTLP_HEADERS,
    timeoutMs: (given.OTEL_EXPORTER_OTLP_TRACES_TIMEOUT ?? given.OTEL_EXPORTER_OTLP_TIMEOUT) || NO_TIMEOUT_MS,
    resource: {
      'service.name': 'graft-origin',
      ...(instance === null ? {} : { 'service.instance.id': instance }),
      'telemetry.sdk.language': 'nodejs',
      'telemetry.sdk.name': 'graft',
      ...given.OTEL_RESOURCE_ATTRIBUTES,
      ...(given.OTEL_SERVICE_NAME === undefined ? {} : { 'service.name': given.OTEL_SERVICE_NAME }),
    },
    sampler: samplerOf(given.OTEL_TRACES_SAMPLER, given.OTEL_TRACES_SAMPLER_ARG),
    latestNames: (given.OTEL_SEMCONV_STABILITY_OPT_IN ?? '')
      .split(',')
      .some((value) => value.trim() === 'gen_ai_latest_experimental'),
    maxQueue: given.OTEL_BSP_MAX_QUEUE_SIZE,
    maxBatch: given.OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    delayMs: given.OTEL_BSP_SCHEDULE_DELAY,
  };
}

function samplerOf(name: string, ratio: number): Sampler {
  const kind = name.replace('parentbased_', '');
  const share = kind === 'traceidratio' ? ratio : Number(kind === 'always_on');
  return { parentBased: kind !== name, share };
}
