-- Completions by the minute (kept 26 h), the hour (35 d) and the day (400 d). Time comes first: what is too old is one
-- range, and one series is found by a list of times.
CREATE TABLE traffic (
  step INTEGER NOT NULL,       -- seconds: 60, 3600 or 86400
  at INTEGER NOT NULL,         -- where it begins, unix seconds
  tenant TEXT NOT NULL,        -- '' = all of them together
  name TEXT NOT NULL,          -- as published; '' with key_id '' = all of the tenant; '*' = names that were too many
  key_id TEXT NOT NULL,
  status INTEGER NOT NULL,     -- HTTP; 499: the client left; 502 without a code: the stream broke off
  code TEXT NOT NULL,          -- of the error; '' = none, or nobody said it
  requests INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  -- Requests by time to first token (t) and by duration (d); bounds in worker/traffic/sum-traffic.ts. 0 takes no byte.
  t0 INTEGER NOT NULL DEFAULT 0, t1 INTEGER NOT NULL DEFAULT 0, t2 INTEGER NOT NULL DEFAULT 0, t3 INTEGER NOT NULL DEFAULT 0,
  t4 INTEGER NOT NULL DEFAULT 0, t5 INTEGER NOT NULL DEFAULT 0, t6 INTEGER NOT NULL DEFAULT 0, t7 INTEGER NOT NULL DEFAULT 0,
  t8 INTEGER NOT NULL DEFAULT 0, t9 INTEGER NOT NULL DEFAULT 0, t10 INTEGER NOT NULL DEFAULT 0, t11 INTEGER NOT NULL DEFAULT 0,
  t12 INTEGER NOT NULL DEFAULT 0, t13 INTEGER NOT NULL DEFAULT 0, t14 INTEGER NOT NULL DEFAULT 0, t15 INTEGER NOT NULL DEFAULT 0,
  t16 INTEGER NOT NULL DEFAULT 0, t17 INTEGER NOT NULL DEFAULT 0, t18 INTEGER NOT NULL DEFAULT 0, t19 INTEGER NOT NULL DEFAULT 0,
  t20 INTEGER NOT NULL DEFAULT 0, t21 INTEGER NOT NULL DEFAULT 0, t22 INTEGER NOT NULL DEFAULT 0, t23 INTEGER NOT NULL DEFAULT 0,
  t24 INTEGER NOT NULL DEFAULT 0, t25 INTEGER NOT NULL DEFAULT 0, t26 INTEGER NOT NULL DEFAULT 0, t27 INTEGER NOT NULL DEFAULT 0,
  d0 INTEGER NOT NULL DEFAULT 0, d1 INTEGER NOT NULL DEFAULT 0, d2 INTEGER NOT NULL DEFAULT 0, d3 INTEGER NOT NULL DEFAULT 0,
  d4 INTEGER NOT NULL DEFAULT 0, d5 INTEGER NOT NULL DEFAULT 0, d6 INTEGER NOT NULL DEFAULT 0, d7 INTEGER NOT NULL DEFAULT 0,
  d8 INTEGER NOT NULL DEFAULT 0, d9 INTEGER NOT NULL DEFAULT 0, d10 INTEGER NOT NULL DEFAULT 0, d11 INTEGER NOT NULL DEFAULT 0,
  d12 INTEGER NOT NULL DEFAULT 0, d13 INTEGER NOT NULL DEFAULT 0, d14 INTEGER NOT NULL DEFAULT 0, d15 INTEGER NOT NULL DEFAULT 0,
  d16 INTEGER NOT NULL DEFAULT 0, d17 INTEGER NOT NULL DEFAULT 0, d18 INTEGER NOT NULL DEFAULT 0, d19 INTEGER NOT NULL DEFAULT 0,
  d20 INTEGER NOT NULL DEFAULT 0, d21 INTEGER NOT NULL DEFAULT 0, d22 INTEGER NOT NULL DEFAULT 0, d23 INTEGER NOT NULL DEFAULT 0,
  d24 INTEGER NOT NULL DEFAULT 0, d25 INTEGER NOT NULL DEFAULT 0, d26 INTEGER NOT NULL DEFAULT 0, d27 INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (step, at, tenant, name, key_id, status, code)
) WITHOUT ROWID;

-- Batches of the last hour, so that one that is sent again is not counted again.
CREATE TABLE traffic_batches (
  id TEXT PRIMARY KEY,
  at INTEGER NOT NULL          -- unix ms
) WITHOUT ROWID;
CREATE INDEX traffic_batches_by_time ON traffic_batches (at);

-- How far hours and days are summed up.
CREATE TABLE traffic_marks (
  step INTEGER PRIMARY KEY,    -- seconds: 3600 or 86400
  until INTEGER NOT NULL       -- unix seconds; what begins here is not summed up yet
) WITHOUT ROWID;

-- The last requests of each tenant, several in a row: a row is what is paid for.
CREATE TABLE request_chunks (
  tenant TEXT NOT NULL,
  at INTEGER NOT NULL,         -- unix ms of the latest in it
  id TEXT NOT NULL,            -- of its batch
  count INTEGER NOT NULL,
  left_out INTEGER NOT NULL,   -- requests of the same time that are not in it
  requests TEXT NOT NULL,      -- JSON, newest first
  PRIMARY KEY (tenant, at, id)
) WITHOUT ROWID;
CREATE INDEX request_chunks_by_time ON request_chunks (at);
