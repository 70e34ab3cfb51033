-- What an experiment's decisions rest on beside its looks. Times are unix milliseconds.

ALTER TABLE experiments ADD COLUMN step_units INTEGER NOT NULL DEFAULT 0; -- units of the seed when the coverage was set
ALTER TABLE experiments ADD COLUMN proposal TEXT;                         -- JSON, of the present seed
ALTER TABLE experiments ADD COLUMN ended_at INTEGER;                      -- when it was decided; NULL = before this, or not
ALTER TABLE experiments ADD COLUMN settled INTEGER NOT NULL DEFAULT 0;    -- 1 = it has had its last look
CREATE INDEX experiments_unsettled ON experiments (ended_at, id) WHERE ended_at IS NOT NULL AND settled = 0;
