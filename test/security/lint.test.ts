/** The rules that keep data from being run, as `npm run lint` has them. */
import { ESLint } from 'eslint';
import { expect, it } from 'vitest';

const eslint = new ESLint();

async function rulesBroken(code: string, filePath = 'worker/registry/d1-x.ts'): Promise<string[]> {
  const [result] = await eslint.lintText(code, { filePath });
  return (result?.messages ?? []).map(({ ruleId, message }) => ruleId ?? message);
}

const QUERY = 'no-restricted-syntax';

it.each([
  [QUERY, 'export const f = (db, name) => db.prepare(`SELECT * FROM names WHERE name = ${name}`);'],
  [QUERY, "export const f = (db, name) => db.prepare(`SELECT ${'x'} WHERE name = '${name}'`);"],
  [QUERY, 'export const f = (db, row) => db.prepare(`SELECT ${row.NAME}`);'],
  [QUERY, "export const f = (db, name) => db.prepare('SELECT ' + name);"],
  [QUERY, 'export const f = (db, name) => db.prepare(sql`SELECT ${name}`);'],
  ['no-eval', 'export const f = (text) => eval(text);'],
  ['no-eval', 'export const f = (text) => globalThis.eval(text);'],
  ['no-new-func', 'export const f = (text) => new Function(text);'],
  ['no-new-func', 'export const f = (text) => Function(text);'],
  ['no-implied-eval', "setTimeout('x', 1);"],
  ['no-script-url', "export const f = 'javascript:x';"],
  ['no-restricted-imports', "import vm from 'node:vm'; vm.isContext({});"],
  ['no-restricted-imports', "import { deserialize } from 'v8'; deserialize(1);"],
])('%s: %s', async (rule, code) => {
  expect(await rulesBroken(code)).toContain(rule);
});

it.each([
  'export const F = ({ text }) => <p dangerouslySetInnerHTML={{ __html: text }} />;',
  'export const F = ({ text }) => <p {...{ dangerouslySetInnerHTML: { __html: text } }} />;',
  'export const f = (element, text) => { element.innerHTML = text; };',
  "export const f = (element, text) => element.insertAdjacentHTML('beforeend', text);",
])('no-restricted-syntax in the page: %s', async (code) => {
  expect(await rulesBroken(code, 'dashboard/views/x.tsx')).toEqual([QUERY]);
});

it.each(['worker/registry/x.ts', 'worker/x.ts'])(
  'lets nothing in %s write to the log past the one function',
  async (file) => {
    for (const call of ['log', 'error', 'warn', 'debug', 'info'])
      expect(await rulesBroken(`console.${call}('x');`, file)).toEqual(['no-console']);
    expect(await rulesBroken("console.log('x');", 'worker/log.ts')).toEqual([]);
  },
);

it('lets constants into a query, and values into its question marks', async () => {
  const fine = [
    "const ROW = 'SELECT * FROM names'; export const f = (db, name) => db.prepare(`${ROW} WHERE name = ?`).bind(name);",
    'export const f = (db, name) => db.prepare(`SELECT 1 WHERE ? = 1`).bind(`${name}/`);',
    'export const f = (tool, name) => tool.prepared(`${name}`);',
  ];
  for (const code of fine) expect(await rulesBroken(code)).toEqual([]);
});
