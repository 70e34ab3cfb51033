// A Node thread has no TypeScript loader unless it registers one; Deno and Bun need none.
if (globalThis.Deno === undefined && globalThis.Bun === undefined) {
  const { register } = await import('tsx/esm/api');
  register();
}
await import('./wasm-thread.ts');
