-- System of record. KV is derived from it and can be rebuilt. Times are unix milliseconds unless a column says otherwise.

-- Identifies this schema: sha256 of this file without this statement. An edge refuses a database with another one.
CREATE TABLE schema_hash (hash TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO schema_hash VALUES ('6245266b97dc088c7d356a991572f9c818d7c9c31d1cca37b21b5ad0f3af84af');

-- Names, versions, and what became of them

CREATE TABLE names (
  name TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  version INTEGER,             -- the live one; NULL while all are staged
  latest INTEGER NOT NULL,
  sequence INTEGER NOT NULL,   -- of the last row in history
  alias TEXT,                  -- the name that this one stands for; such a row has no versions
  strict INTEGER NOT NULL DEFAULT 0, -- 1: a missing name below is not answered by this name, nor by one above it
  removed_at INTEGER,          -- NULL = not removed; else version and alias are NULL, and it can be restored for some days
  removal INTEGER,             -- id in history; what was removed together has the same
  removed_version INTEGER,     -- that was live
  removed_alias TEXT,
  about TEXT                   -- JSON {description, tags}
) WITHOUT ROWID;
CREATE INDEX names_by_owner ON names (owner, name);
CREATE INDEX names_of_removal ON names (removal, name) WHERE removal IS NOT NULL;
CREATE INDEX names_removed ON names (name) WHERE removed_at > 0;
CREATE INDEX names_by_alias ON names (alias, name) WHERE alias IS NOT NULL;
CREATE INDEX names_by_removed_alias ON names (removed_alias, name) WHERE removed_alias IS NOT NULL;

-- A row is half a kB, and up to 16 kB more with a training card. WITHOUT ROWID each would take a page of its own for
-- what does not fit beside its key.
CREATE TABLE versions (
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
  proof TEXT,                  -- sha256 of what an origin saw when it was admitted, stored beside the file's parts; NULL = none
  evaluation TEXT,             -- JSON, StoredEvaluation of protocol/origin-wire.ts
  retired_at INTEGER,          -- NULL = may be served
  withdrawn_at INTEGER,        -- since when an adapter below, another owner's, is retired; NULL = never
  removed_at INTEGER,          -- NULL = not removed
  removal INTEGER,             -- id in history
  training TEXT,               -- JSON, TrainingCard of protocol/training.ts; last, so that reading the others skips it
  PRIMARY KEY (name, version)
);
-- Others get those only after a question.
CREATE INDEX versions_from_prompts ON versions (name, version)
  WHERE CASE WHEN json_valid(training) THEN training ->> '$.prompts' END IS NOT NULL;
CREATE INDEX versions_removed ON versions (removed_at, name, version) WHERE removed_at IS NOT NULL;
CREATE INDEX versions_removed_by_name ON versions (name, version) WHERE removed_at > 0;
CREATE INDEX versions_of_removal ON versions (removal, name, version) WHERE removal IS NOT NULL;

-- Kept evaluations: rows with expected answers or a judge that belong to a name.
CREATE TABLE evaluations (
  name TEXT NOT NULL,
  label TEXT NOT NULL,
  tenant TEXT NOT NULL,        -- owner of the name; '' = it is being erased
  rows INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  sha256 TEXT NOT NULL,        -- of the rows and the judge
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  judge TEXT,                  -- 'base' or <name>@<version>; NULL = answers must be exactly as expected, or classes as labelled
  judge_chain TEXT,            -- chain id of the judge: after an erasure its name and version may be another adapter's
  labelled INTEGER NOT NULL DEFAULT 0, -- 1 = rows have labels, which classifiers should give
  PRIMARY KEY (name, label)
) WITHOUT ROWID;
CREATE INDEX evaluations_of_tenant ON evaluations (tenant, bytes);

-- Their rows, encrypted: a dump of this table cannot be read without the edge's secret.
CREATE TABLE evaluation_rows (
  name TEXT NOT NULL,
  label TEXT NOT NULL,
  first INTEGER NOT NULL,      -- how many stand before these
  secret TEXT NOT NULL,        -- id of the secret that sealed them
  sealed TEXT NOT NULL,        -- base64url, worker/platform/sealed-text.ts
  PRIMARY KEY (name, label, first)
);
CREATE INDEX evaluation_rows_by_secret ON evaluation_rows (secret);

-- How chains did on rows. A version finds its scores by its chain: they may be older than the version, and the same
-- chain need not be scored twice.
CREATE TABLE evaluation_scores (
  name TEXT NOT NULL,          -- whose evaluation
  sha256 TEXT NOT NULL,        -- of its rows and judge
  chain_id TEXT NOT NULL,
  digest TEXT NOT NULL,        -- of the chain's last file
  exact TEXT NOT NULL,         -- for each row that is scored, in order: 1 exact, as labelled or accepted, 0 not, ? no clear verdict
  nats REAL NOT NULL,          -- negative log-likelihood of all expected tokens or labels so far
  tokens INTEGER NOT NULL,
  at INTEGER NOT NULL,         -- when a row was last scored
  macro_f1 REAL,               -- of all rows so far; NULL = they have no labels
  confusion TEXT,              -- JSON, ConfusionCount of protocol/confusion.ts; last, so that reading the others skips it
  PRIMARY KEY (name, sha256, chain_id)
);

-- Every change of a name. `id` orders the changes of all names. Two changes that read the same state want the same
-- sequence number, and one of them fails.
CREATE TABLE history (
  id INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again, so that changes of erased names are told from later ones
  name TEXT NOT NULL,
  sequence INTEGER NOT NULL,   -- below 0: reserve, unreserve and erase, for which the name need not exist
  at INTEGER NOT NULL,
  actor TEXT NOT NULL,
  owner TEXT NOT NULL,         -- of the name
  action TEXT NOT NULL,        -- HistoryAction of protocol/admin-api
  from_version INTEGER,
  to_version INTEGER,          -- NULL for an alias
  target TEXT,                 -- of an alias
  why TEXT,
  UNIQUE (name, sequence)
);
CREATE INDEX history_by_owner ON history (owner, id);

-- Every adapter of every version's chain: of a file, first the versions that it is the file of.
CREATE TABLE chain_members (
  digest TEXT NOT NULL,
  below INTEGER NOT NULL,      -- 0: the version's own file
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (digest, below, name, version)
) WITHOUT ROWID;

-- Every change of what a name points at notes the name here, in its own transaction, until KV has been told.
CREATE TABLE stale_pointers (
  name TEXT PRIMARY KEY,
  since INTEGER NOT NULL,
  change INTEGER NOT NULL      -- latest row of history when it was noted: what is written stands for changes up to here
) WITHOUT ROWID;
CREATE INDEX stale_pointers_by_time ON stale_pointers (since, name);

-- Reserved prefixes: what does not exist yet at or below the name is the tenant's to take.
CREATE TABLE rooms (
  name TEXT PRIMARY KEY,
  tenant TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX rooms_by_tenant ON rooms (tenant, name);

-- Names whose live chain the origins are asked to keep in memory.
CREATE TABLE pins (
  name TEXT PRIMARY KEY,
  at INTEGER NOT NULL,
  actor TEXT NOT NULL
) WITHOUT ROWID;

-- Where the schedule's long walks go on.
CREATE TABLE upkeep (
  job TEXT PRIMARY KEY,
  cursor TEXT NOT NULL
) WITHOUT ROWID;

-- Files of adapters

CREATE TABLE blobs (
  digest TEXT PRIMARY KEY,
  bytes INTEGER NOT NULL,
  parts TEXT NOT NULL,         -- JSON [{bytes, sha256}], without sha256 where it is the digest: bytes of all may lie in KV or R2
  touched_at INTEGER NOT NULL,
  damaged_at INTEGER           -- found damaged: nobody holds it before somebody has sent it again
) WITHOUT ROWID;

-- Who sent which part, until all are there, and who sent all of them: a digest alone gives no right to anything.
CREATE TABLE blob_parts (
  digest TEXT NOT NULL,
  tenant TEXT NOT NULL,
  part INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (digest, tenant, part)
) WITHOUT ROWID;
CREATE INDEX blob_parts_of_tenant ON blob_parts (tenant, digest);

CREATE TABLE blob_holders (
  digest TEXT NOT NULL,
  tenant TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (digest, tenant)
) WITHOUT ROWID;
CREATE INDEX blob_holders_of_tenant ON blob_holders (tenant, digest);

-- One row for every file of which bytes may lie in KV or R2, written before the first of them.
CREATE TABLE stored_files (
  digest TEXT PRIMARY KEY,
  since INTEGER NOT NULL,      -- when it was first sent; anew after it was deleted
  touched_at INTEGER NOT NULL,
  deleting_at INTEGER,         -- marked as garbage; the next touch takes the mark away
  -- Set while the file is being deleted: nobody may rely on it or add to it. It is the deleter's claim, the time of its
  -- last sign of life; 0 = the deletion has begun, and nobody is at it.
  collecting_at INTEGER
) WITHOUT ROWID;

-- One row for every part of which bytes may lie in KV or R2 and that neither its file's record nor, as a proof, a version
-- lists, written before them. A part lies under its own sha256, so that tenants who send the same file cannot touch each other's.
CREATE TABLE stored_parts (
  digest TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  kept_at INTEGER NOT NULL,    -- last sent, or last relied on by who sent it; a day later it is deleted
  collecting_at INTEGER,       -- since when somebody deletes it by itself: nobody may send it or rely on it
  PRIMARY KEY (digest, sha256)
) WITHOUT ROWID;
CREATE INDEX stored_parts_by_time ON stored_parts (kept_at);

-- What a page has sent with a publish token, until a day after the token has expired. A token has as many files as it may
-- make versions; it exists nowhere else.
CREATE TABLE page_uploads (
  token TEXT NOT NULL,         -- its id
  digest TEXT NOT NULL,
  tenant TEXT NOT NULL,        -- of the token
  bytes INTEGER NOT NULL,      -- announced so far, repetitions included
  parts TEXT NOT NULL,         -- JSON {index: {bytes, sha256, at}}: what has arrived with this token
  tries INTEGER NOT NULL DEFAULT 0, -- to publish it
  version INTEGER,             -- that it became; NULL = none yet
  expires_at INTEGER NOT NULL, -- of the token
  PRIMARY KEY (token, digest)
) WITHOUT ROWID;
CREATE INDEX page_uploads_by_expiry ON page_uploads (expires_at);
CREATE INDEX page_uploads_by_file ON page_uploads (digest, tenant);
CREATE INDEX page_uploads_by_tenant ON page_uploads (tenant, digest);

-- Files of rows for fine-tuning jobs; their bytes are in KV or R2, encrypted. Ids are ordered by time.
CREATE TABLE row_files (
  id TEXT PRIMARY KEY,
  tenant TEXT NOT NULL,        -- '' = it was erased
  state TEXT NOT NULL,         -- receiving | ready | going: the store may have bytes still
  touched_at INTEGER NOT NULL, -- when it last grew, or began to go
  filename TEXT NOT NULL,
  bytes INTEGER NOT NULL,      -- while it arrives: at most
  lines INTEGER NOT NULL,      -- that are not blank
  parts INTEGER NOT NULL,      -- that may be stored
  sha256 TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX row_files_of_tenant ON row_files (tenant, id, bytes);
CREATE INDEX row_files_by_state ON row_files (state, touched_at);
CREATE INDEX row_files_by_expiry ON row_files (expires_at) WHERE state = 'ready';

-- Fine-tuning jobs. One that has not ended claims its name. Of two changes of one revision, one fails.
CREATE TABLE training_jobs (
  id TEXT PRIMARY KEY,         -- ordered by time
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,          -- of the result
  parent TEXT,                 -- name that it is trained on top of; NULL = the base
  base TEXT NOT NULL,          -- id
  status TEXT NOT NULL,        -- protocol/fine-tuning.ts
  origin TEXT,                 -- that has it; NULL = none
  not_before INTEGER NOT NULL, -- when it may be given to an origin
  began_at INTEGER,            -- when it was last given to an origin; tenants take turns by it
  finished_at INTEGER,         -- NULL = it has not ended
  revision INTEGER NOT NULL,
  leased_until INTEGER NOT NULL, -- somebody attends to it until then
  looked_at INTEGER NOT NULL,  -- when somebody last did
  document TEXT NOT NULL       -- JSON, JobDocument of worker/training/ports.ts
) WITHOUT ROWID;
CREATE INDEX training_jobs_of_tenant ON training_jobs (tenant, id);
CREATE INDEX training_jobs_turns ON training_jobs (tenant, began_at);
CREATE INDEX training_jobs_open ON training_jobs (name, tenant) WHERE finished_at IS NULL;
CREATE INDEX training_jobs_by_parent ON training_jobs (parent) WHERE parent IS NOT NULL;
CREATE INDEX training_jobs_by_name ON training_jobs (name);
CREATE INDEX training_jobs_ended ON training_jobs (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE training_events (
  job TEXT NOT NULL,
  number INTEGER NOT NULL,     -- from 1
  at INTEGER NOT NULL,
  level TEXT NOT NULL,         -- info | warn | error
  message TEXT NOT NULL,
  metrics TEXT,                -- JSON, of JobEvent of protocol/training-jobs.ts
  PRIMARY KEY (job, number)
) WITHOUT ROWID;

-- Jobs that an origin is still to delete: it may be away. It says nothing of whose they were.
CREATE TABLE training_deletions (
  origin TEXT NOT NULL,
  job TEXT NOT NULL,
  asked_at INTEGER NOT NULL,   -- when it was last asked
  PRIMARY KEY (origin, job)
) WITHOUT ROWID;

-- Usage of jobs that have ended, until `usage` has it, which may lie in another database.
CREATE TABLE training_usage (
  tenant TEXT NOT NULL,
  batch TEXT NOT NULL,         -- random, as in usage_batches: a repetition is not counted, and nothing names the job
  used TEXT NOT NULL,          -- JSON, UsageRow of worker/metering/ports.ts
  PRIMARY KEY (tenant, batch)
) WITHOUT ROWID;

-- What became of the files put under KV's drop:<name>, the last few of each name.
CREATE TABLE drops (
  name TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  version INTEGER,             -- that it became; NULL when it was refused
  at INTEGER NOT NULL,         -- when that was decided
  removed_at INTEGER,          -- when the file was taken out of KV
  PRIMARY KEY (name, sha256)
) WITHOUT ROWID;

-- Keys, grants, limits

CREATE TABLE keys (
  id TEXT PRIMARY KEY,
  hash TEXT NOT NULL UNIQUE,   -- sha256; the key itself is shown once and kept nowhere
  kind TEXT NOT NULL CHECK (kind IN ('api', 'admin')),
  tenant TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  revoked_at INTEGER,
  expires_at INTEGER,          -- NULL = never
  counter TEXT,                -- id of the key whose quota it counts against; NULL = its own
  replaced_by TEXT,            -- the last key that took its place alone
  replaces TEXT,               -- the key whose place it took
  rights TEXT NOT NULL         -- JSON, all that can be changed: label, scopes, rights and limits; what is off is left out
) WITHOUT ROWID;
CREATE INDEX keys_by_time ON keys (created_at, id);
CREATE INDEX keys_revoked ON keys (revoked_at, id) WHERE revoked_at IS NOT NULL;
CREATE INDEX keys_by_tenant ON keys (tenant, created_at, id);
CREATE INDEX keys_of_tenant ON keys (tenant, id);
CREATE INDEX keys_by_predecessor ON keys (replaces) WHERE replaces IS NOT NULL;
CREATE INDEX keys_by_maker ON keys (created_by);

-- Rights that owners gave away: the tenant may use what the owner has published under names that the scope covers.
CREATE TABLE grants (
  tenant TEXT NOT NULL,        -- who has it; * = everybody
  scope TEXT NOT NULL,
  owner TEXT NOT NULL,         -- whose adapters; * = everybody's, which only the bootstrap key gives
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  PRIMARY KEY (tenant, scope, owner)
) WITHOUT ROWID;
CREATE INDEX grants_by_owner ON grants (owner, tenant, scope);

-- Tenants whose grants open nothing for a tenant, those to everybody neither.
CREATE TABLE grant_refusals (
  tenant TEXT NOT NULL,        -- who refuses
  owner TEXT NOT NULL,         -- whose adapters
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  PRIMARY KEY (tenant, owner)
) WITHOUT ROWID;
CREATE INDEX grant_refusals_by_owner ON grant_refusals (owner, tenant);

-- Every change of a key or of grants that KV must be told of notes them here, in its own transaction, until KV has been
-- told. A later change replaces the row, and numbers are never used again: what is written strikes off its own only.
CREATE TABLE stale_rights (
  change INTEGER PRIMARY KEY AUTOINCREMENT,
  record TEXT NOT NULL UNIQUE  -- key:<hash>, or grants:<tenant>
);

-- What all keys of a tenant may use together.
CREATE TABLE tenant_limits (
  tenant TEXT PRIMARY KEY,
  limits TEXT,                 -- JSON, KeyLimits of protocol/admin-api; NULL = lifted
  changed_at INTEGER NOT NULL,
  changed_by TEXT NOT NULL,
  revision INTEGER NOT NULL,   -- grows with each change
  written_to TEXT              -- keys up to this id have them in KV; NULL = all have
) WITHOUT ROWID;
CREATE INDEX tenant_limits_unwritten ON tenant_limits (tenant) WHERE written_to IS NOT NULL;

-- What was used, and by whom

-- By the hour (hours since 1970, UTC).
CREATE TABLE usage (
  tenant TEXT NOT NULL,
  hour INTEGER NOT NULL,
  key_id TEXT NOT NULL,
  name TEXT NOT NULL,
  version INTEGER NOT NULL,    -- 0 for the base model
  base TEXT NOT NULL,          -- whose price it has: the version's base, or the base model's own name
  requests INTEGER NOT NULL,
  errors INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  PRIMARY KEY (tenant, hour, key_id, name, version, base)
) WITHOUT ROWID;

-- Its sums by the day, for reports by tenant or day: a month's hours may be millions of rows.
CREATE TABLE usage_days (
  tenant TEXT NOT NULL,
  day INTEGER NOT NULL,        -- days since 1970, UTC
  base TEXT NOT NULL,          -- as in usage
  requests INTEGER NOT NULL,
  errors INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  last_hour INTEGER NOT NULL,  -- as in usage
  PRIMARY KEY (tenant, day, base)
) WITHOUT ROWID;

-- Batches of the last days, so that one that is sent again is not counted again.
CREATE TABLE usage_batches (
  id TEXT PRIMARY KEY,
  at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX usage_batches_by_time ON usage_batches (at);

-- Completions by the hour (kept 35 d) and the day (400 d); gatherers have the minutes. Time comes first: what is too old
-- is one range, and one series is found by a list of times.
CREATE TABLE traffic (
  step INTEGER NOT NULL,       -- seconds: 3600 or 86400
  at INTEGER NOT NULL,         -- where it begins, unix seconds
  tenant TEXT NOT NULL,        -- '' = all of them together
  name TEXT NOT NULL,          -- as published; '' with key_id '' = all of the tenant; '*' = names that were too many
  key_id TEXT NOT NULL,
  status INTEGER NOT NULL,     -- HTTP; 499: the client left; 502 without a code: the stream broke off
  code TEXT NOT NULL,          -- of the error; '' = none, or nobody said it
  writer INTEGER NOT NULL,     -- the gatherer, which writes its part of an hour anew; 0 = a day, of all
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
  PRIMARY KEY (step, at, tenant, name, key_id, status, code, writer)
) WITHOUT ROWID;
-- The operator looks at one name or key, whoever used it.
CREATE INDEX traffic_by_name ON traffic (name, step, at) WHERE name <> '';
CREATE INDEX traffic_by_key ON traffic (key_id, step, at) WHERE key_id <> '';

-- How far days are summed up.
CREATE TABLE traffic_marks (
  step INTEGER PRIMARY KEY,    -- seconds: 86400
  until INTEGER NOT NULL       -- unix seconds; what begins here is not summed up yet
) WITHOUT ROWID;

-- How busy each origin was, by the minute; kept 26 h.
CREATE TABLE origin_minutes (
  at INTEGER NOT NULL,         -- unix seconds
  origin TEXT NOT NULL,
  rows_running INTEGER NOT NULL,
  requests_waiting INTEGER NOT NULL,  -- for a row or an adapter
  slots INTEGER NOT NULL,
  adapters_resident INTEGER NOT NULL,
  adapter_bytes INTEGER NOT NULL,
  memory_bytes INTEGER NOT NULL,
  PRIMARY KEY (at, origin)
) WITHOUT ROWID;

-- Prompts and answers of keys that ask for it, until they expire. What was said is encrypted: neither a dump of this
-- table nor D1's own past (Time Travel, 30 days) can be read without the edge's secret.
CREATE TABLE kept_prompts (
  tenant TEXT NOT NULL,
  at INTEGER NOT NULL,         -- when the request ended
  id TEXT NOT NULL,            -- of the request
  key_id TEXT NOT NULL,
  name TEXT NOT NULL,          -- that served; '' = none
  expires_at INTEGER NOT NULL,
  bytes INTEGER NOT NULL,      -- of sealed
  sealed TEXT NOT NULL,        -- base64url, worker/prompts/keep-prompts.ts
  user TEXT NOT NULL,          -- hash of who asked
  improve INTEGER NOT NULL,    -- 1: its key had that right when it ended
  PRIMARY KEY (tenant, at, id)
);
-- With all that is looked through when there are too many, so that no row is read for it.
CREATE INDEX kept_prompts_of_tenant ON kept_prompts (tenant, at, id, bytes, key_id);
CREATE INDEX kept_prompts_by_expiry ON kept_prompts (expires_at);
CREATE INDEX kept_prompts_by_name ON kept_prompts (name);
CREATE INDEX kept_prompts_by_id ON kept_prompts (tenant, id, at DESC);

-- Which of two answers users preferred, by their requests; what was said is in kept_prompts alone.
CREATE TABLE preferences (
  tenant TEXT NOT NULL,
  at INTEGER NOT NULL,         -- when it was told
  chosen TEXT NOT NULL,        -- ids of requests
  rejected TEXT NOT NULL,
  key_id TEXT NOT NULL,        -- that told it
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (tenant, chosen, rejected)
);
CREATE INDEX preferences_of_tenant ON preferences (tenant, at, chosen, rejected);
CREATE INDEX preferences_by_expiry ON preferences (expires_at);

-- A/B tests of adapters

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
  written_version INTEGER NOT NULL DEFAULT 0, -- that KV has been told of
  attended_at INTEGER NOT NULL DEFAULT 0,     -- when the schedule last took it: it looks at so many a run, longest ago first
  step_units INTEGER NOT NULL DEFAULT 0,      -- units of the seed when the coverage was set
  proposal TEXT,               -- JSON, of the present seed
  ended_at INTEGER,            -- when it was decided
  settled INTEGER NOT NULL DEFAULT 0          -- 1 = it has had its last look
) WITHOUT ROWID;
CREATE UNIQUE INDEX experiments_in_use ON experiments (name) WHERE status <> 'archived';
CREATE INDEX experiments_by_name ON experiments (name, created_at, id);
CREATE INDEX experiments_by_owner ON experiments (owner, created_at, id);
CREATE INDEX experiments_by_time ON experiments (created_at, id);
CREATE INDEX experiments_by_status ON experiments (status, created_at, id);
CREATE INDEX experiments_behind ON experiments (id) WHERE started_at IS NOT NULL AND written_version < version;
CREATE INDEX experiments_in_turn ON experiments (attended_at, id) WHERE status IN ('running', 'ramping');
CREATE INDEX experiments_unsettled ON experiments (ended_at, id) WHERE ended_at IS NOT NULL AND settled = 0;

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

-- Webhooks

-- Where alerts of budgets and origins go.
CREATE TABLE webhooks (
  id TEXT PRIMARY KEY,
  owner TEXT NOT NULL,         -- the tenant; '' = the operator
  url TEXT NOT NULL,
  events TEXT NOT NULL,        -- JSON
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX webhooks_by_owner ON webhooks (owner, id);

-- What experiments and alerts tell, each once; kept when it is sent, so that it is not told again.
CREATE TABLE webhook_messages (
  id TEXT PRIMARY KEY,
  source TEXT NOT NULL,        -- id of the experiment, or of the webhook
  url TEXT NOT NULL,
  body TEXT NOT NULL,          -- JSON
  tries INTEGER NOT NULL DEFAULT 0,
  next_at INTEGER,             -- when it is tried; NULL = sent, or given up
  made_at INTEGER NOT NULL,
  kept_until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX webhook_messages_due ON webhook_messages (next_at, id) WHERE next_at IS NOT NULL;
CREATE INDEX webhook_messages_of_source ON webhook_messages (source, next_at);
CREATE INDEX webhook_messages_old ON webhook_messages (kept_until);

-- Origins that do not answer.
CREATE TABLE origin_absences (
  origin TEXT PRIMARY KEY,
  since INTEGER NOT NULL,
  told INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- Erasing for good

-- What is to go is noted first and then goes page by page; where whoever asked for it has gone, the schedule goes on. Of
-- an erasure that has ended nothing is left here: history has its row.
CREATE TABLE erasures (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,          -- tenant | name | below
  target TEXT NOT NULL,        -- the tenant, or the name
  owner TEXT NOT NULL,         -- tenant whose things go
  cascade INTEGER NOT NULL,
  usage INTEGER NOT NULL,      -- 1 = what it used is forgotten too
  step TEXT NOT NULL,          -- protocol/admin-api/erasures.ts; planned = it may still be called off
  place TEXT NOT NULL,         -- where in the step; '' = at its beginning
  touched_at INTEGER NOT NULL,
  ended_at INTEGER             -- since when it waits for requests under way; NULL = it does not yet
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
