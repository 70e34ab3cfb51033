/**
 * Limits as the sources state them: a constant's name, its value with the unit, and the comment above it. The list says
 * which ones a reader meets, and in what order.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';

export interface Limit {
  readonly name: string;
  /** With its unit, such as `24 MiB`. */
  readonly value: string;
  /** What it limits, and why. */
  readonly text: string;
}

/** By file, so that a name is looked for where it stands. */
interface ShownLimits {
  readonly title: string;
  readonly limits: Readonly<Record<string, readonly string[]>>;
}

export const SHOWN_LIMITS: readonly ShownLimits[] = [
  {
    title: 'Requests and answers',
    limits: {
      'protocol/limits.ts': [
        'MAX_BODY_BYTES',
        'MAX_FIELDS',
        'MAX_JSON_DEPTH',
        'MAX_JSON_CONTAINERS',
        'MAX_MESSAGES',
        'MAX_CONTENT_PARTS',
        'MAX_TEMPLATE_KWARGS_BYTES',
        'MAX_TEMPLATE_KWARGS_DEPTH',
        'MAX_STOP_SEQUENCES',
        'MAX_STOP_CHARACTERS',
        'MAX_STOP_TOKENS',
        'MAX_LOGIT_BIAS',
        'MAX_VOCABULARY',
        'MAX_TOP_LOGPROBS',
        'MAX_CHOICES',
        'DEFAULT_TEXT_TOKENS',
        'MAX_PROMPTS',
        'MAX_PROMPT_LIST_TOKENS',
        'MAX_PROMPT_LIST_SCORES',
        'MAX_EMBEDDING_INPUTS',
        'MAX_PAIR_CHARACTERS',
        'MAX_PROBABILITIES',
        'MAX_METADATA',
        'MAX_CLIENT_KEY',
        'MAX_USER_CHARACTERS',
        'MAX_REQUEST_ID',
        'MAX_COMPOSED',
        'MAX_COMPOSED_SCALE',
        'STREAM_HEARTBEAT_MS',
        'STREAM_STALL_MS',
      ],
      'worker/limits.ts': ['REQUEST_BUDGET_MS'],
      'worker/origins/limits.ts': ['UNREAD_MS'],
      'worker/completions/limits.ts': ['MAX_LISTED_MODELS', 'MAX_SUGGESTIONS'],
    },
  },
  {
    title: 'Tools and structured output',
    limits: {
      'protocol/request-fields.ts': [
        'MAX_TOOLS',
        'MAX_TOOL_CALLS',
        'MAX_ARGUMENTS',
        'MAX_SCHEMA_BYTES',
        'MAX_GUIDED_CHARACTERS',
        'MAX_GUIDED_CHOICES',
        'MAX_GUIDED_CHOICES_BYTES',
        'MAX_GRAMMAR_BYTES',
      ],
      'gpu-origin/grammar/schema-rules.ts': [
        'MAX_DEPTH',
        'MAX_PROPERTIES',
        'MAX_ENUM',
        'MAX_ITEMS',
        'MAX_LENGTH',
      ],
      'gpu-origin/grammar/automaton-rules.ts': ['MAX_DEPTH', 'MAX_REPETITION', 'MAX_RANGES'],
      'gpu-origin/grammar/automaton.ts': ['MAX_PARTS'],
      'gpu-origin/grammar/constraint-grammar.ts': ['MAX_GROUPS', 'MAX_REPETITION', 'MAX_CALLS'],
      'gpu-origin/grammar/ebnf.ts': ['MAX_WRITTEN_OUT', 'MAX_WORK'],
      'gpu-origin/grammar/thread-worker.ts': ['COMPILE_LIMIT_MS'],
      'gpu-origin/grammar/compiled-grammars.ts': ['MAX_WAITING', 'MAX_TENANT_WAITING', 'MAX_GRAMMARS'],
    },
  },
  {
    title: 'Adapters, names and uploads',
    limits: {
      'protocol/limits.ts': [
        'MAX_NAME_LENGTH',
        'MAX_NAME_SEGMENTS',
        'MAX_NAME_SEGMENT',
        'MAX_CHAIN',
        'MAX_RANK',
        'MAX_INVOCATION_TOKENS',
        'MAX_CLASSES',
        'MAX_LABEL_CHARACTERS',
        'MAX_PART_BYTES',
        'MAX_PARTS',
        'MAX_PINNED_NAMES',
      ],
      'adapters/format/safetensors.ts': ['MAX_HEADER_BYTES', 'MAX_ADAPTER_TENSORS'],
      'protocol/admin-api/names.ts': ['MAX_WHY', 'MAX_DESCRIPTION', 'MAX_TAGS', 'REMOVAL_GRACE_MS'],
      'protocol/origin-wire.ts': ['MAX_EVALUATION_ROWS'],
      'protocol/admin-api/evaluations.ts': [
        'MAX_KEPT_EVALUATIONS',
        'MAX_KEPT_ROWS',
        'MAX_KEPT_EVALUATION_BYTES',
        'MAX_KEPT_ROW_BYTES',
        'SCORED_ROWS',
        'JUDGED_ROWS',
        'MAX_JUDGED_TOKENS',
      ],
      'worker/evaluations/limits.ts': ['MAX_TENANT_EVALUATION_BYTES', 'UNPUBLISHED_SCORE_MS'],
      'protocol/training.ts': ['MAX_TRAINING_CARD_BYTES', 'MAX_CURVE_POINTS'],
      'worker/registry/limits.ts': ['MAX_REMOVED_AT_ONCE'],
      'worker/blobs/limits.ts': [
        'HELD_BYTES',
        'TENANT_HELD_BYTES',
        'MAX_ROOM_WAIT_MS',
        'PART_STALL_MS',
        'PART_DEADLINE_MS',
        'PART_SETTLE_MS',
        'UPLOAD_KEPT_MS',
        'GARBAGE_MARK_MS',
        'GARBAGE_COLLECT_MS',
      ],
      'worker/kv-inbox/limits.ts': ['DROPS_PER_PASS', 'DROP_SETTLE_MS', 'DROP_STALE_MS'],
    },
  },
  {
    title: 'Fine-tuning',
    limits: {
      'protocol/training-jobs.ts': ['MAX_ROWS_FILE_BYTES', 'MAX_FILE_ROWS', 'MAX_JOB_SECONDS'],
      'worker/training/limits.ts': [
        'MAX_TENANT_ROWS_BYTES',
        'MAX_TENANT_FILES',
        'MAX_FILENAME_CHARACTERS',
        'UPLOAD_DEADLINE_MS',
        'MAX_OPEN_JOBS',
        'JOB_KEPT_MS',
        'MAX_ENDED_JOBS',
        'MAX_KEPT_EVENTS',
        'ORIGIN_LOST_MS',
        'RESULT_LOST_MS',
        'CHECKPOINT_LOST_MS',
      ],
      'worker/access/limits.ts': ['TRAINING_REQUESTS'],
    },
  },
  {
    title: 'Keys, grants and rates',
    limits: {
      'protocol/admin-api/operation.ts': [
        'MAX_SCOPES',
        'MAX_KEY_LIFE_MS',
        'MAX_KEY_GRACE_MS',
        'DEFAULT_KEY_GRACE_MS',
        'MAX_ADMIN_BODY_BYTES',
        'MAX_EXPERIMENT_BODY_BYTES',
        'MAX_PLAN_BODY_BYTES',
        'MAX_EVALUATION_BODY_BYTES',
        'MAX_HISTORY_PAGE',
        'MAX_KEYS_SHOWN',
        'EXPERIMENTS_SHOWN',
        'MAX_EXPERIMENTS_SHOWN',
      ],
      'protocol/identity.ts': ['SIGN_IN_LINK_MS'],
      'protocol/browser-downloads.ts': [
        'MAX_DOWNLOAD_NAMES',
        'DEFAULT_DOWNLOAD_TOKEN_MS',
        'MAX_DOWNLOAD_TOKEN_MS',
      ],
      'protocol/browser-publications.ts': [
        'DEFAULT_PUBLISH_TOKEN_MS',
        'MAX_PUBLISH_TOKEN_MS',
        'MAX_PUBLISH_VERSIONS',
        'DEFAULT_PUBLISH_BYTES',
        'MAX_PUBLISH_BYTES',
        'PUBLISH_PART_BYTES',
      ],
      'worker/publications/limits.ts': [
        'MAX_PAGE_SENDS',
        'LEAST_PART_BYTES',
        'MAX_PAGE_TRIES',
        'PAGE_PART_DEADLINE_MS',
      ],
      'protocol/limits.ts': ['SIGNATURE_WINDOW_MS'],
      'worker/access/limits.ts': [
        'MIN_SELF_GRACE_MS',
        'MAX_GRANTS',
        'MAX_GRANTS_FROM_ONE',
        'MAX_GRANTS_GIVEN',
        'MAX_REFUSALS',
        'ADMIN_READS',
        'ADMIN_CHANGES',
        'OPERATOR_REQUESTS',
        'UNKNOWN_ADMIN_KEYS',
        'MODEL_READS',
        'DOWNLOADS',
        'PAGE_PUBLICATIONS',
        'PAGE_TOKEN_REQUESTS',
        'FEEDBACK_REQUESTS',
        'COMPOSED_REQUESTS',
        'LARGE_BODY_BYTES',
        'LARGE_BODIES',
        'REFUSED_COMPLETIONS',
      ],
      'worker/metering/limits.ts': [
        'BLOCKS_ABOVE_RPM',
        'BLOCK_REQUESTS',
        'QUOTA_WRITE_MS',
        'LEASE_MS',
        'QUOTA_TIMEOUT_MS',
        'USAGE_PAGE_HOURS',
        'USAGE_PAGE_DAYS',
        'USAGE_PAGE_TENANTS',
      ],
    },
  },
  {
    title: 'Experiments',
    limits: {
      'protocol/limits.ts': [
        'MAX_VARIANTS',
        'MIN_VARIANT_WEIGHT',
        'WEIGHT_TOLERANCE',
        'MAX_EXPERIMENT_METRICS',
        'MAX_RAMP_STEPS',
        'MAX_HOLD_MINUTES',
        'MAX_MIN_DAYS',
        'MAX_EXPERIMENT_LIST',
        'MAX_UNIT_CHARACTERS',
        'MAX_JUDGE_TOKENS',
        'DEFAULT_JUDGE_TOKENS',
        'MAX_KEPT_PAIRS',
      ],
      'worker/experiments/limits.ts': [
        'EXPOSURE_LIFE_MS',
        'MAX_FEEDBACK_BODY_BYTES',
        'MAX_FEEDBACK_VALUE',
        'MAX_SEGMENTS_HELD',
        'MAX_SHOWN_SEGMENTS',
        'MAX_SEGMENT_CHARACTERS',
        'MAX_SHADOWS',
        'SHADOW_BUDGET_MS',
        'CALL_TIMEOUT_MS',
        'MAX_PAIRS_OF_USER',
        'MAX_PAIR_CHARACTERS',
        'EXPERIMENTS_PER_RUN',
      ],
    },
  },
  {
    title: 'Webhooks',
    limits: {
      'worker/webhooks/limits.ts': [
        'MAX_WEBHOOKS',
        'MAX_WAITING_ALERTS',
        'MAX_WAITING_OF_TENANT',
        'WEBHOOK_TIMEOUT_MS',
        'WEBHOOK_TRIES',
        'WEBHOOKS_PER_RUN',
        'ORIGIN_AWAY_MS',
      ],
    },
  },
  {
    title: 'Caches and failures',
    limits: {
      'worker/limits.ts': ['POINTER_CACHE_TTL_S', 'LOCATION_CACHE_MS', 'KV_TIMEOUT_MS', 'LAST_KNOWN_GOOD_MS'],
      'worker/registry/limits.ts': ['NEGATIVE_CACHE_MS'],
      'worker/origins/limits.ts': [
        'LOAD_BUDGET_MS',
        'HEADERS_PATIENCE_MS',
        'MAX_SILENCED_ORIGINS',
        'SILENCE_MEMORY_MS',
        'EJECT_MS',
        'MAX_EJECT_MS',
        'SIGNATURE_EJECT_MS',
        'BASE_INFO_TTL_MS',
        'ORIGIN_VERIFY_MS',
        'PIN_TIMEOUT_MS',
        'FOLLOW_TIMEOUT_MS',
        'REPLICA_FILL',
        'REPLICA_SHRINK_AFTER_MS',
        'SHADOW_MAX_FILL',
      ],
      'gpu-origin/engine/adapters/adapter-cache.ts': ['PINNED_SHARE'],
      'gpu-origin/http/serve.ts': ['DRAIN_MS'],
    },
  },
  {
    title: 'What is kept, and how long',
    limits: {
      'protocol/admin-api/traffic.ts': ['MAX_KEPT_REQUESTS'],
      'worker/traffic/limits.ts': ['REQUESTS_KEPT_MS', 'KEPT_S', 'GATHERED_S', 'MAX_BATCH_REQUESTS'],
      'worker/gathering/limits.ts': ['GATHERER_WRITE_MS'],
      'worker/origins/limits.ts': ['ORIGIN_HISTORY_KEPT_S'],
      'protocol/admin-api/prompts.ts': ['MAX_KEEP_HOURS', 'MAX_KEPT_TEXT'],
      'worker/prompts/limits.ts': ['MAX_KEPT_PROMPTS', 'MAX_KEPT_BYTES', 'DECIDED_SHARE'],
      'worker/improvements/limits.ts': ['MAX_PREFERENCES', 'MAX_ROWS_CHARACTERS'],
      'protocol/admin-api/improvements.ts': ['MOST_OF_USER'],
      'worker/experiments/limits.ts': ['PAIR_KEPT_MS', 'TALLY_KEPT_MS'],
      'gpu-origin/jobs/jobs.ts': ['JOB_UNBEGUN_MS', 'JOB_UNHEARD_MS', 'MAX_HELD_JOBS'],
    },
  },
];

type Value = number | { readonly [key: string]: number };

const DAY_MS = 86_400_000;
const DURATIONS = { h: 3_600_000, min: 60_000, s: 1_000, ms: 1 };
const SIZES = { MiB: 1024 ** 2, KiB: 1024, bytes: 1 };

const number = (value: number): string => value.toLocaleString('en-US', { maximumFractionDigits: 10 });

/** The largest unit of which `value` is a whole multiple. */
function inUnits(value: number, units: Readonly<Record<string, number>>): string {
  const [unit = '', size = 1] = Object.entries(units).find(([, one]) => value % one === 0) ?? [];
  return `${number(value / size)} ${unit}`;
}

const duration = (ms: number): string =>
  ms % DAY_MS === 0 && ms > DAY_MS ? `${number(ms / DAY_MS)} days` : inUnits(ms, DURATIONS);

/** The end of a constant's name is its unit. */
function withUnit(name: string, value: number): string {
  const unit = name.slice(name.lastIndexOf('_') + 1);
  switch (unit) {
    case 'MS':
      return duration(value);
    case 'S':
    case 'SECONDS':
      return duration(value * 1_000);
    case 'MINUTES':
      return duration(value * 60_000);
    case 'BYTES':
      return inUnits(value, SIZES);
    case 'DAYS':
    case 'TOKENS':
    case 'CHARACTERS':
      return `${number(value)} ${unit.toLowerCase()}`;
    default:
      return number(value);
  }
}

function written(name: string, value: Value): string {
  if (typeof value === 'number') return withUnit(name, value);
  const { perSecond, burst, atOnce } = value;
  if (perSecond !== undefined && burst !== undefined)
    return [
      `${perSecond} a second`,
      `bursts of ${number(burst)}`,
      ...(atOnce === undefined ? [] : [`${atOnce} at once`]),
    ].join(', ');
  return Object.entries(value)
    .map(([key, one]) => (/^\d/.test(key) ? withUnit(name, one) : `${key} ${number(one)}`))
    .join(', ');
}

interface Source {
  readonly file: string;
  readonly constants: ReadonlyMap<string, ts.VariableDeclaration>;
  /** File that a name is imported from. */
  readonly imports: ReadonlyMap<string, string>;
}

/** @param root folder that files are named from. */
export function limitReader(root: string): (file: string, name: string) => Limit {
  const sources = new Map<string, Source>();

  function open(file: string): Source {
    const known = sources.get(file);
    if (known !== undefined) return known;
    const tree = ts.createSourceFile(
      file,
      readFileSync(path.join(root, file), 'utf8'),
      ts.ScriptTarget.Latest,
      true,
    );
    const constants = new Map<string, ts.VariableDeclaration>();
    const imports = new Map<string, string>();
    for (const statement of tree.statements) {
      if (ts.isVariableStatement(statement))
        for (const one of statement.declarationList.declarations) constants.set(one.name.getText(), one);
      if (!ts.isImportDeclaration(statement) || !ts.isStringLiteral(statement.moduleSpecifier)) continue;
      const from = path.join(path.dirname(file), statement.moduleSpecifier.text);
      const named = statement.importClause?.namedBindings;
      if (named !== undefined && ts.isNamedImports(named))
        for (const { name } of named.elements) imports.set(name.text, from);
    }
    const source = { file, constants, imports };
    sources.set(file, source);
    return source;
  }

  function numberOf(source: Source, node: ts.Expression): number {
    const value = valueOf(source, node);
    if (typeof value !== 'number') throw new Error(`${source.file}: ${node.getText()} is not a number`);
    return value;
  }

  function valueOf(source: Source, node: ts.Expression): Value {
    if (ts.isNumericLiteral(node)) return Number(node.text);
    if (ts.isAsExpression(node) || ts.isParenthesizedExpression(node))
      return valueOf(source, node.expression);
    if (ts.isIdentifier(node)) {
      const elsewhere = source.imports.get(node.text);
      const owner = elsewhere === undefined ? source : open(elsewhere);
      const initializer = owner.constants.get(node.text)?.initializer;
      if (initializer !== undefined) return valueOf(owner, initializer);
    }
    if (ts.isObjectLiteralExpression(node))
      return Object.fromEntries(
        node.properties.flatMap((property) =>
          ts.isPropertyAssignment(property)
            ? [[property.name.getText(), numberOf(source, property.initializer)]]
            : [],
        ),
      );
    if (ts.isBinaryExpression(node)) {
      const [left, right] = [numberOf(source, node.left), numberOf(source, node.right)];
      switch (node.operatorToken.kind) {
        case ts.SyntaxKind.AsteriskToken:
          return left * right;
        case ts.SyntaxKind.SlashToken:
          return left / right;
        case ts.SyntaxKind.PlusToken:
          return left + right;
        case ts.SyntaxKind.MinusToken:
          return left - right;
        case ts.SyntaxKind.AsteriskAsteriskToken:
          return left ** right;
      }
    }
    throw new Error(`${source.file}: the value of a limit must be plain arithmetic, not ${node.getText()}`);
  }

  return (file, name) => {
    const source = open(file);
    const declaration = source.constants.get(name);
    if (declaration?.initializer === undefined) throw new Error(`${file} has no ${name}`);
    const comment = ts
      .getJSDocCommentsAndTags(declaration)
      .find(ts.isJSDoc)
      ?.getText()
      .replaceAll(/\/\*\*|\*\/|^ *\*(?!\/) ?/gm, '')
      .replaceAll(/\{@link (\w+)\}/g, '`$1`')
      .replaceAll(/\s+/g, ' ')
      .trim();
    if (comment === undefined) throw new Error(`${file}: ${name} has no comment that says what it limits`);
    return { name, value: written(name, valueOf(source, declaration.initializer)), text: comment };
  };
}
