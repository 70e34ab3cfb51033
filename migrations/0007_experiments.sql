-- A/B tests of adapters. Times are unix milliseconds.

CREATE TABLE experiments (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  owner TEXT NOT NULL,         -- of the name
  version INTEGER NOT NULL,    -- of the document; of two changes of one version, one fails
  status TEXT NOT NULL,        -- as the document says it, and so is the seed
  seed TEXT NOT NULL,
  seeds TEXT NOT NULL,         -- JSON, all that it has had
  document TEXT NOT NULL,      -- JSON, protocol/experiment.ts
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  started_at INTEGER,          -- when the seed went live; NULL = it never did
  coverage_at INTEGER,         -- when the coverage was set
  evaluation TEXT,             -- JSON, the latest look
  written_version INTEGER NOT NULL DEFAULT 0 -- that KV has been told of
) WITHOUT ROWID;
CREATE UNIQUE INDEX experiments_in_use ON experiments (name) WHERE status <> 'archived';
CREATE INDEX experiments_by_name ON experiments (name, created_at, id);
CREATE INDEX experiments_by_owner ON experiments (owner, created_at, id);
CREATE INDEX experiments_by_time ON experiments (created_at, id);
CREATE INDEX experiments_by_status ON experiments (status, id);
CREATE INDEX experiments_behind ON experiments (id) WHERE started_at IS NOT NULL AND written_version < version;

-- The versions that an experiment's variants and shadow stand for.
CREATE TABLE experiment_versions (
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  experiment TEXT NOT NULL,
  PRIMARY KEY (name, version, experiment)
) WITHOUT ROWID;
CREATE INDEX experiment_versions_by_experiment ON experiment_versions (experiment);

CREATE TABLE experiment_looks (
  experiment TEXT NOT NULL,
  seed TEXT NOT NULL,
  at INTEGER NOT NULL,
  evaluation TEXT NOT NULL,    -- JSON
  PRIMARY KEY (experiment, seed, at)
) WITHOUT ROWID;
