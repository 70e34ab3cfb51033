/** Who has claimed names around a name, by rooms, names and fine-tuning jobs that have not ended. */
import { prefixEnd } from '../platform/d1-database.ts';

/** @returns the names above `name`, as JSON. */
function above(name: string): string {
  const parts = name.split('/');
  return JSON.stringify(parts.slice(1).map((_, i) => parts.slice(0, i + 1).join('/')));
}

/** Takes {@link nearestValues}. On the same path a room wins: 'room' sorts after 'name'. */
export const NEAREST = `SELECT * FROM (
    SELECT name AS path, tenant AS owner, 'room' AS kind FROM rooms
    WHERE name = ? OR name IN (SELECT value FROM json_each(?))
    UNION ALL SELECT name, owner, 'name' FROM names WHERE name IN (SELECT value FROM json_each(?))
    UNION ALL SELECT name, tenant, 'name' FROM training_jobs
    WHERE finished_at IS NULL AND (name = ? OR name IN (SELECT value FROM json_each(?))))
  ORDER BY length(path) DESC, kind DESC LIMIT 1`;
export const nearestValues = (name: string): string[] => [name, above(name), above(name), name, above(name)];

/** Takes {@link belowValues}. */
export const BELOW = `SELECT owner FROM names WHERE name > ? AND name < ?
  UNION SELECT tenant FROM rooms WHERE name > ? AND name < ?
  UNION SELECT tenant FROM training_jobs WHERE finished_at IS NULL AND name > ? AND name < ?`;
export const belowValues = (name: string): string[] => {
  const range = [`${name}/`, prefixEnd(`${name}/`)];
  return [...range, ...range, ...range];
};

/**
 * Must be false when a new name is taken. Same rule as `mayTake` in claims.ts, checked in the transaction.
 */
export const notFreeFor = (tenant: string, name: string): { sql: string; values: string[] } => ({
  sql: `CASE (SELECT CASE WHEN owner <> ? THEN 'other' ELSE kind END FROM (${NEAREST}))
    WHEN 'other' THEN 1 WHEN 'room' THEN 0
    ELSE EXISTS (SELECT 1 FROM (${BELOW}) WHERE owner <> ?) END`,
  values: [tenant, ...nearestValues(name), ...belowValues(name), tenant],
});
