-- Keys whose requests are refused where they have a field that nobody knows.
ALTER TABLE keys ADD COLUMN strict_fields INTEGER NOT NULL DEFAULT 0;
