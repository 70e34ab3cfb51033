-- What an origin saw when a version was admitted, and what its publisher says it scored. Both JSON; see
-- protocol/adapter-trials.ts. NULL in versions from before.
ALTER TABLE versions ADD COLUMN proof TEXT;
ALTER TABLE versions ADD COLUMN evaluation TEXT;
