/** Numbers of traffic over time and of the list of requests, with unit and reason. */

const SECOND = 1_000;
const MINUTE_S = 60;
const HOUR_S = 60 * MINUTE_S;
const DAY_S = 24 * HOUR_S;

/** An isolate sends what it noted this long after the first of it; longer would not fit the 30 s after a response. */
export const TRAFFIC_FLUSH_MS = 5 * SECOND;
/** A batch is tried so often, with a growing pause. */
export const TRAFFIC_TRIES = 3;
/** Rows and requests of batches that wait; then the oldest are given up, and said so. */
export const MAX_UNSENT_TRAFFIC = 5_000;
/** Rows of one batch of an isolate, each about 200 bytes. */
export const MAX_TRAFFIC_ROWS = 500;
/** Requests of a tenant in one batch of an isolate, and in one row of the database: each about 300 bytes. */
export const MAX_BATCH_REQUESTS = 100;
/**
 * The collector writes when no batch came for this long. workerd puts an object away that nobody called for 10 s, and with
 * it what it has in memory.
 */
export const COLLECT_QUIET_MS = 4 * SECOND;
/** … or when it has so many rows and requests: what comes until the next time must find room. */
export const COLLECT_FULL = MAX_UNSENT_TRAFFIC / 2;
/** Longest delay before traffic and requests are written. */
// All isolates together then cause one write per row.
export const COLLECT_MOST_MS = 30 * SECOND;
/** Of one value in a statement, bytes; D1 takes 2,000,000, and a minute of many tenants has several times that. */
export const MAX_VALUE_BYTES = 1_000_000;
/** Names and keys told apart in one minute of traffic. The others share one row. */
export const MAX_NAMED_ROWS = 500;
/** … and names and keys of an hour or a day. */
export const MAX_NAMED_SERIES = 1_000;
/** A collector that does not take a batch in this time is asked again. */
export const COLLECTOR_TIMEOUT_MS = 5 * SECOND;
/** Batches are known for this long; none is sent again later. */
export const TRAFFIC_BATCH_MEMORY_MS = HOUR_S * SECOND;
/** An hour is summed up this long after its end: what is tried again comes before. */
export const ROLL_UP_AFTER_S = 5 * MINUTE_S;
/** How long traffic is kept by the minute, by the hour and by the day. */
// A day, a month and a year, with a margin for charts.
export const KEPT_S = { 60: 26 * HOUR_S, 3600: 35 * DAY_S, 86400: 400 * DAY_S } as const;
/** Steps that one run of the schedule takes away of what is too old, so that no run is long. */
export const PRUNED_STEPS = 30;
/** How long the list of requests goes back. */
export const REQUESTS_KEPT_MS = 7 * DAY_S * SECOND;
/** Rows of requests that one run of the schedule takes away. */
export const PRUNED_CHUNKS = 2_000;
/** Outcomes of one answer: statuses with their codes. */
export const MAX_OUTCOMES = 50;
