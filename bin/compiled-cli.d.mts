/** @returns the file to import, compiled now if its sources are newer. @throws when a source does not compile. */
export function compiledCli(root?: string): Promise<string>;
/** Compiles whether sources changed or not. @returns the new entry. */
export function compileCli(root?: string): Promise<string>;
