// A thread of Node's has no loader of TypeScript unless it registers one; Deno and Bun need none.
if (globalThis.Deno === undefined && globalThis.Bun === undefined) {
  const { register } = await import('tsx/esm/api');
  register();
}
await import('./wasm-thread.ts');
