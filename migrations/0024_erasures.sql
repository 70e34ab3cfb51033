-- Erasing for good. What is to go is noted first and then goes page by page; where whoever asked for it has gone, the
-- schedule goes on. Of an erasure that has ended nothing is left here: history has its row (erase, a sequence below 0).
CREATE TABLE erasures (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,          -- tenant | name | below
  target TEXT NOT NULL,        -- the tenant, or the name
  owner TEXT NOT NULL,         -- tenant whose things go
  cascade INTEGER NOT NULL,
  usage INTEGER NOT NULL,      -- 1 = what it used is forgotten too
  step TEXT NOT NULL,          -- protocol/admin-api/erasures.ts; planned = it may still be called off
  place TEXT NOT NULL,         -- where in the step; '' = at its beginning
  touched_at INTEGER NOT NULL  -- unix ms
);
CREATE INDEX erasures_by_step ON erasures (step, touched_at);

CREATE TABLE erasure_items (
  erasure INTEGER NOT NULL,
  name TEXT NOT NULL,
  version INTEGER NOT NULL,    -- 0 = the name as a whole
  gone INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (erasure, name, version)
) WITHOUT ROWID;

CREATE TABLE erasure_files (
  erasure INTEGER NOT NULL,
  digest TEXT NOT NULL,
  origins TEXT,                -- JSON, ids of those that are still to drop it; NULL = it is in the store still
  PRIMARY KEY (erasure, digest)
) WITHOUT ROWID;
