/** Types of the edge's traces. */
import type { Attributes } from '../../protocol/otlp.ts';

/** What a request waits for at the edge; each is a span. */
export type StageName = 'auth' | 'resolve' | 'quota' | 'choose' | 'bring adapter' | 'origin' | 'stream';

export interface Stage {
  name: StageName;
  /** null = nobody has to know it before. */
  spanId: string | null;
  /** Unix ms. */
  from: number;
  /** null = it has not ended. */
  to: number | null;
  attributes: Attributes;
  failed: boolean;
}

/** Ends a stage; later calls do nothing. */
export type EndStage = (how?: { attributes?: Attributes; failed?: boolean }) => void;

/** Of one request. */
export interface Stages {
  /** @param spanId if what the stage sends must name it. */
  begin(name: StageName, spanId?: string): EndStage;
}

/** Workers' own tracing, as far as every version of it goes: `tracing` of `cloudflare:workers`. */
export interface RuntimeTracing {
  enterSpan<T>(name: string, callback: (span: RuntimeSpan) => T): T;
}

export interface RuntimeSpan {
  setAttribute(key: string, value: string | number | boolean): void;
}
