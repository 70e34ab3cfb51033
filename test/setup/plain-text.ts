/** What a runner sets for its own output does not change what commands print. */
delete process.env['FORCE_COLOR'];
process.env['NO_COLOR'] = '1';
