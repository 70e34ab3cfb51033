/** Limits of traffic over time and of the list of requests, with unit and reason. */

const SECOND = 1_000;
const MINUTE_S = 60;
const HOUR_S = 60 * MINUTE_S;
const DAY_S = 24 * HOUR_S;

/** Delay before an isolate sends its notes; a longer one would not fit the 30 s after a response. */
export const TRAFFIC_FLUSH_MS = 5 * SECOND;
/** Attempts per batch, with growing pauses. */
export const TRAFFIC_TRIES = 3;
/** Rows and requests of waiting batches; beyond that the oldest are dropped and logged. */
export const MAX_UNSENT_TRAFFIC = 5_000;
/** Rows per batch from an isolate, about 200 bytes each. */
export const MAX_TRAFFIC_ROWS = 500;
/** Requests of a tenant per batch from an isolate, and per database row; about 300 bytes each. */
export const MAX_BATCH_REQUESTS = 100;
/**
 * The collector writes if no batch has arrived for this long. workerd evicts an object that was not called
 * for 10 s, along with its memory.
 */
export const COLLECT_QUIET_MS = 4 * SECOND;
/**
 * … or if it has this many rows and requests: there must be space for those that arrive before the next
 * write.
 */
export const COLLECT_FULL = MAX_UNSENT_TRAFFIC / 2;
/** Longest delay before traffic and requests are written. */
// All isolates together then cause one write per row.
export const COLLECT_MOST_MS = 30 * SECOND;
/** Distinct names and keys in one minute of traffic. All others share one row. */
export const MAX_NAMED_ROWS = 500;
/** … and names and keys of an hour or a day. */
export const MAX_NAMED_SERIES = 1_000;
/** A collector that does not accept a batch in this time is called again. */
export const COLLECTOR_TIMEOUT_MS = 5 * SECOND;
/** Batches are remembered for this long; none is resent later. */
export const TRAFFIC_BATCH_MEMORY_MS = HOUR_S * SECOND;
/** An hour is summed this long after its end: retries arrive before. */
export const ROLL_UP_AFTER_S = 5 * MINUTE_S;
/** How long traffic is kept by the minute, by the hour and by the day. */
// A day, a month and a year, with a margin for charts.
export const KEPT_S = { 60: 26 * HOUR_S, 3600: 35 * DAY_S, 86400: 400 * DAY_S } as const;
/** Steps of old traffic that one scheduled run deletes, so that no run is long. */
export const PRUNED_STEPS = 30;
/** How long the list of requests goes back. */
export const REQUESTS_KEPT_MS = 7 * DAY_S * SECOND;
/** Rows of requests that one scheduled run deletes. */
export const PRUNED_CHUNKS = 2_000;
/** Outcomes per response: statuses with their error codes. */
export const MAX_OUTCOMES = 50;
