import type { NamedFile } from '../../protocol/index.ts';
import type { SqlDatabase } from '../platform/d1-database.ts';
import type { FileNames } from './ports.ts';

export const createD1FileNames = (db: SqlDatabase): FileNames => ({
  async of(digests, limit) {
    const { results } = await db
      .prepare(
        `SELECT digest, name, version, owner FROM versions
         WHERE digest IN (SELECT value FROM json_each(?)) AND removed_at IS NULL
         ORDER BY digest, name, version DESC LIMIT ?`,
      )
      .bind(JSON.stringify(digests), limit)
      .all<NamedFile>();
    return results;
  },
});
