-- A row of versions is 1 to 2 kB. WITHOUT ROWID each had a page of its own for what did not fit beside its key; in a table
-- of rows it shares one page with others.
CREATE TABLE versions_in_pages (
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  digest TEXT NOT NULL,
  owner TEXT NOT NULL,
  chain TEXT NOT NULL,         -- JSON, root first
  chain_id TEXT NOT NULL,
  parent TEXT,                 -- name@version
  base_id TEXT NOT NULL,
  base_digest TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  rank INTEGER NOT NULL,
  rank_sum INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  proof TEXT,                  -- JSON, see worker/registry/d1-registry-rows.ts; NULL = from before there were any
  evaluation TEXT,             -- JSON, StoredEvaluation of protocol/adapter-trials.ts
  retired_at INTEGER,          -- NULL = may be served
  withdrawn_at INTEGER,        -- since when an adapter below, another owner's, is retired; NULL = never
  PRIMARY KEY (name, version)
);
INSERT INTO versions_in_pages
  SELECT name, version, digest, owner, chain, chain_id, parent, base_id, base_digest, bytes, rank, rank_sum, created_at,
    created_by, proof, evaluation, retired_at, withdrawn_at
  FROM versions ORDER BY created_at, name, version;
DROP TABLE versions;
ALTER TABLE versions_in_pages RENAME TO versions;
CREATE INDEX versions_by_digest ON versions (digest, name, version DESC);
CREATE INDEX versions_by_chain ON versions (chain_id, created_at DESC);
