-- Admin keys with which their tenant's adapters may be fetched back; the bootstrap key may in any case.
ALTER TABLE keys ADD COLUMN download INTEGER NOT NULL DEFAULT 0;
