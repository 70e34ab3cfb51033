import tseslint from 'typescript-eslint';

const CONSTANT = 'Identifier[name=/^[A-Z][A-Z0-9_]*$/]';

/** Text that becomes a query: only what the source itself says, and constants of it. The rest is bound. */
const BUILT_QUERIES = [
  `CallExpression[callee.property.name='prepare'] > TemplateLiteral:has(> :not(${CONSTANT}).expressions)`,
  "CallExpression[callee.property.name='prepare'] > BinaryExpression",
  "CallExpression[callee.property.name='prepare'] > TaggedTemplateExpression",
].map((selector) => ({
  selector,
  message: 'A query is a constant; values are bound to its question marks.',
}));

/** What runs text as code, or reads objects back from bytes with code in them. */
const RUNNING_TEXT = ['vm', 'node:vm', 'repl', 'node:repl', 'v8', 'node:v8'].map((name) => ({
  name,
  message: 'Data is never run as code.',
  ...(name === 'node:v8' ? { allowImportNames: ['setFlagsFromString'] } : {}),
}));

/** What makes a part of a page out of text: the dashboard shows what others wrote. */
const MARKUP = [
  ':matches(JSXAttribute[name.name="dangerouslySetInnerHTML"], Property[key.name="dangerouslySetInnerHTML"])',
  'MemberExpression[property.name=/^(innerHTML|outerHTML|insertAdjacentHTML|setHTMLUnsafe|srcdoc)$/]',
].map((selector) => ({ selector, message: 'Text stays text; elements are written in JSX.' }));

/** Its plain entry is deprecated since 1.29; gpu-origin/runtime/web loads the raw module. */
const WEB_RUNTIME = [{ name: 'onnxruntime-web', message: 'gpu-origin/runtime/web loads its raw module.' }];

/** A limit of a test's own is one that a busy machine breaks. */
const OWN_LIMITS = [
  'CallExpression[callee.name=/^(it|test|(before|after)(All|Each))$/] > Literal[raw=/^[0-9]/]',
  'CallExpression[callee.callee.object.name=/^(it|test)$/] > Literal[raw=/^[0-9]/]',
  'CallExpression[callee.property.name=/^(poll|waitFor|waitUntil)$/] Property[key.name="timeout"]',
].map((selector) => ({ selector, message: 'All time limits of tests are in test/setup/slow.ts.' }));

export default tseslint.config(
  { ignores: ['node_modules', '.wrangler', 'dist', 'coverage', '.graft'] },
  ...tseslint.configs.strict,
  {
    // What no-implied-eval looks at.
    languageOptions: { globals: { setTimeout: 'readonly', setInterval: 'readonly' } },
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/consistent-type-imports': 'error',
      'no-eval': 'error',
      'no-implied-eval': 'error',
      'no-new-func': 'error',
      'no-script-url': 'error',
      'no-restricted-imports': ['error', { paths: [...RUNNING_TEXT, ...WEB_RUNTIME] }],
      'no-restricted-syntax': ['error', ...BUILT_QUERIES, ...MARKUP],
      'no-console': 'off',
    },
  },
  // What the worker logs goes through one function, so that every line has a level and bounded fields.
  { files: ['worker/**'], ignores: ['worker/log.ts'], rules: { 'no-console': 'error' } },
  // They measure memory, and look into tables by their names.
  {
    files: ['test/**', 'bench/**'],
    rules: { 'no-restricted-imports': 'off', 'no-restricted-syntax': ['error', ...OWN_LIMITS] },
  },
);
