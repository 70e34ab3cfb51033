-- Names below which nothing is inherited: what is missing there is not answered by this name, nor by one above it.
ALTER TABLE names ADD COLUMN strict INTEGER NOT NULL DEFAULT 0; -- history: strict | unstrict
