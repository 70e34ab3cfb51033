-- What its owner says of a name: JSON {description, tags}. NULL = nothing.
ALTER TABLE names ADD COLUMN about TEXT; -- history: edit
