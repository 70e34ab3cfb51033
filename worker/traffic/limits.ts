/** Limits of traffic over time and of the list of requests, with unit and reason. */

const SECOND = 1_000;
const MINUTE_S = 60;
const HOUR_S = 60 * MINUTE_S;
const DAY_S = 24 * HOUR_S;

/**
 * Requests of a tenant that an isolate or a gatherer lists of one batch, and that one row has; some 130 bytes each. The
 * others of the same time are counted.
 */
export const MAX_BATCH_REQUESTS = 100;
/** Requests that wait in an isolate for one gatherer, some 1 kB each; beyond that they are only counted. */
export const MAX_UNSENT_REQUESTS = 1_000;
/** Groups of tenants in a gatherer: one of its rows is a minute of one group, and a tenant's day reads its group alone. */
export const TRAFFIC_GROUPS = 16;
/** Distinct names and keys in one minute of a group. All others of a tenant share one row. */
export const MAX_NAMED_ROWS = 500;
/** … in one hour of a gatherer, and in one day of all. */
export const MAX_NAMED_SERIES = 1_000;
/** An hour is written to D1 this long after its end, and up to as much later, which spreads gatherers; late ones again. */
export const ROLL_UP_AFTER_S = 5 * MINUTE_S;
/** A day is summed this long after its end. */
export const DAY_AFTER_S = 2 * HOUR_S;
/** What is younger is read from gatherers, what is older from D1. What comes later than that counts as this old. */
export const GATHERED_S = DAY_S;
/** How long traffic is kept by the minute, by the hour and by the day. */
// A day, a month and a year, with a margin for charts.
export const KEPT_S = { 60: 26 * HOUR_S, 3600: 35 * DAY_S, 86400: 400 * DAY_S } as const;
/** Steps of old traffic that one scheduled run deletes, so that no run is long. */
export const PRUNED_STEPS = 30;
/** How long the list of requests goes back. */
export const REQUESTS_KEPT_MS = 7 * DAY_S * SECOND;
/** Outcomes per response: statuses with their error codes. */
export const MAX_OUTCOMES = 50;
