-- What an experiment's decisions rest on beside its looks. Times are unix milliseconds.

ALTER TABLE experiments ADD COLUMN step_units INTEGER NOT NULL DEFAULT 0; -- units of the seed when the coverage was set
ALTER TABLE experiments ADD COLUMN proposal TEXT;                         -- JSON, of the present seed
ALTER TABLE experiments ADD COLUMN ended_at INTEGER;                      -- when it was decided; NULL = before this, or not
ALTER TABLE experiments ADD COLUMN settled INTEGER NOT NULL DEFAULT 0;    -- 1 = it has had its last look
CREATE INDEX experiments_unsettled ON experiments (ended_at, id) WHERE ended_at IS NOT NULL AND settled = 0;

-- What experiments tell their webhooks, each once a seed; kept when it is sent, so that it is not told again.
CREATE TABLE webhook_messages (
  id TEXT PRIMARY KEY,
  experiment TEXT NOT NULL,
  url TEXT NOT NULL,
  body TEXT NOT NULL,          -- JSON
  tries INTEGER NOT NULL DEFAULT 0,
  next_at INTEGER,             -- when it is tried; NULL = sent, or given up
  made_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX webhook_messages_due ON webhook_messages (next_at, id) WHERE next_at IS NOT NULL;
CREATE INDEX webhook_messages_old ON webhook_messages (made_at);
