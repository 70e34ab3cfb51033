/** Limits of the edge's traces. */

/** Stages of one request that get a span: more than a request has that is sent to every origin of a pool. */
export const MAX_STAGES = 64;
/** How long spans wait for those of other requests, ms. */
export const SPANS_FLUSH_MS = 1_000;
/** Spans that wait in an isolate; further ones are dropped. A span takes some 800 bytes. */
export const MAX_WAITING_SPANS = 2_048;
/** Of one export, as OpenTelemetry's own exporters. */
export const MAX_EXPORTED_SPANS = 512;
/** One attempt, ms: with three of them and their pauses, a flush ends within the 30 s that follow a response. */
export const EXPORT_TIMEOUT_MS = 5_000;
export const EXPORT_TRIES = 3;
export const EXPORT_PAUSE_MS = 1_000;
/** Lost spans have one line in the log for this long, ms. */
export const LOSS_LOG_MS = 60_000;
/** Bytes of a receiver's answer that are read. */
export const MAX_RECEIVER_BYTES = 65_536;
