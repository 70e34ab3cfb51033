import { Hono } from 'hono';
import { cors } from 'hono/cors';
import { requestId } from 'hono/request-id';
import { secureHeaders } from 'hono/secure-headers';
import { MAX_REQUEST_ID, unknownPath, type ApiError, type NameEntry } from '../protocol/index.ts';
import { registryUnavailable } from './errors.ts';
import type { PairJudges, PairTallies } from './experiments/pairs/ports.ts';
import type { WebhookSigner } from './experiments/webhooks.ts';
import type { AnswerTokens, ExposureTokens } from './experiments/exposure-token.ts';
import type { UnitHasher } from './experiments/assign.ts';
import type { IntakeDeps } from './registry/registry-deps.ts';
import type { TakeDropOnMiss } from './drops/take-drops.ts';
import { KV_TIMEOUT_MS, LAST_KNOWN_GOOD_ENTRIES, LAST_KNOWN_GOOD_MS, RETRY_AFTER_MS } from './limits.ts';
import { MAX_SUGGESTED_KEYS, SUGGESTIONS_PER_SECOND } from './completions/limits.ts';
import {
  anthropicErrors,
  drainBody,
  EXPOSED_HEADERS,
  noStore,
  observeRequest,
  fail,
  methodNotAllowed,
  type AppEnv,
  type Observer,
} from './http/request.ts';
import { createGates } from './access/rate-limits.ts';
import { repinAfterChange, createPinSync } from './origins/pins.ts';
import { requireAdmin, type SignIn } from './access/require-admin.ts';
import { logLine } from './log.ts';
import type { OriginClient } from './origins/client.ts';
import { adminOpenApiRoutes } from './http/openapi/document.ts';
import { createSuggestionBudget } from './completions/usable-names.ts';
import { adminDownloadRoutes, adminBlobRoutes } from './blobs/routes.ts';
import { downloadRoutes } from './downloads/routes.ts';
import type { DownloadTokens } from './downloads/download-token.ts';
import { adminBackupRoutes, type BackupDeps } from './backup/routes.ts';
import { adminEraseRoutes } from './erasure/routes.ts';
import type { EraseDeps } from './erasure/erase-steps.ts';
import { adminEvaluateRoutes, adminOriginRoutes, adminPinRoutes, adminWarmRoutes } from './origins/routes.ts';
import { adminExperimentRoutes } from './experiments/routes.ts';
import { adminGrantRoutes, adminRefusalRoutes } from './access/grants-routes.ts';
import { adminHistoryRoutes, adminLifeCycleRoutes } from './registry/live-routes.ts';
import { adminKeyRoutes } from './access/keys-routes.ts';
import { adminRoomRoutes } from './registry/rooms-routes.ts';
import { adminTenantLimitsRoutes, adminUsageRoutes } from './metering/routes.ts';
import { adminUpkeepRoutes } from './registry/upkeep-routes.ts';
import { adminPromptRoutes } from './prompts/routes.ts';
import type { KeptPrompts, PromptKeeper } from './prompts/ports.ts';
import type { TextSealer } from './prompts/keep-prompts.ts';
import { adminRequestRoutes, adminTrafficRoutes } from './traffic/routes.ts';
import type { TrafficLedger, TrafficSink } from './traffic/ports.ts';
import type { PriceList, CompletionMeter, Quotas, TenantLimits, UsageLedger } from './metering/ports.ts';
import { adminVerifyRoutes, adminVersionRoutes } from './registry/versions-routes.ts';
import { completionRoutes, tokenizerRoutes } from './completions/routes.ts';
import type {
  WebhookOutbox,
  ExperimentEntry,
  ExperimentIndex,
  ExperimentLedger,
  ExperimentSink,
  ExperimentTallies,
  ShadowRunner,
} from './experiments/ports.ts';
import type { Fetch } from './origins/signed-fetch.ts';
import { feedbackRoutes } from './experiments/feedback-routes.ts';
import {
  baseRoutes,
  sharedHeaders,
  type PageFiles,
  dashboardRoutes,
  enginePageHeaders,
  pageHeaders,
} from './http/page-routes.ts';
import { modelRoutes } from './completions/models-routes.ts';
import type { FileNames, OriginHistoryLedger, PinLedger } from './origins/ports.ts';
import { withLastKnownGood } from './platform/kv-cache.ts';
import { createVersionIndex } from './access/repair-rights.ts';
import {
  DamagedRow,
  StoreUnavailable,
  type BulkIndex,
  type Index,
  type RowAudit,
  type KeyListing,
} from './platform/ports.ts';
import type { GarbageLedger } from './blobs/ports.ts';
import type {
  GrantIndex,
  GrantLedger,
  HeldGrants,
  KeyIndex,
  KeyLedger,
  KeyRecord,
  RightsWriter,
} from './access/ports.ts';
import type { NameIndex, AbsenceCheck } from './registry/ports.ts';

export interface Services extends Pick<EraseDeps, 'erasures' | 'dropBox'>, Pick<BackupDeps, 'backups'> {
  /** As the hot path reads them: with the last known good behind. */
  names: BulkIndex<NameEntry>;
  keys: Index<KeyRecord>;
  grants: Index<HeldGrants>;
  intake: IntakeDeps;
  /** Asks about names that KV does not have. */
  absence: AbsenceCheck;
  /** Was a name written since this was last asked? */
  pointersChanged: () => boolean;
  /** Takes in what was dropped for a name that does not exist; none while drops are off. */
  takeDropOnMiss?: TakeDropOnMiss;
  /** Names as KV has them, without a memory; for repairs. */
  nameIndex: NameIndex;
  listing: KeyListing;
  garbage: GarbageLedger;
  rowAudit: RowAudit;
  keyIndex: KeyIndex;
  keyLedger: KeyLedger;
  /** Writes both indexes. */
  rights: RightsWriter;
  grantIndex: GrantIndex;
  grantLedger: GrantLedger;
  origins: OriginClient;
  adminKeyHash: string | null;
  meter: CompletionMeter;
  /** null = this edge has no counters. */
  quotas: Quotas | null;
  tenantLimits: TenantLimits;
  /** Hears of every request when it has ended. */
  observer?: Observer;
  usage: UsageLedger;
  /** What tokens cost; null = reports of usage do not say. */
  prices: PriceList | null;
  /** Completions by time … */
  traffic: TrafficLedger;
  /** … which are noted here. */
  trafficSink: TrafficSink;
  /** What was asked and answered, of keys that have it kept … */
  keptPrompts: KeptPrompts;
  /** … which is done here … */
  promptKeeper: PromptKeeper;
  /** … and encrypted. */
  textSealer: TextSealer;
  pins: PinLedger;
  originHistory: OriginHistoryLedger;
  /** What the files are that origins hold. */
  fileNames: FileNames;
  /** As the hot path reads them. */
  experiments: Index<ExperimentEntry>;
  experimentLedger: ExperimentLedger;
  /** What is recorded of requests goes here. */
  experimentSink: ExperimentSink;
  shadows: ShadowRunner;
  pairJudges: PairJudges;
  pairTallies: PairTallies;
  judgeSigner: WebhookSigner;
  downloadTokens: DownloadTokens;
  exposureTokens: ExposureTokens;
  answerTokens: AnswerTokens;
  unitHash: UnitHasher;
  tallies: ExperimentTallies;
  outbox: WebhookOutbox;
  webhookSigner: WebhookSigner;
  /** Reaches addresses that tenants wrote down. */
  callOut: Fetch;
  /** Whether what tenants have called may be this machine itself. */
  loopbackCallbacks: boolean;
  /** Experiments as KV has them, without a memory; for repairs. */
  experimentIndex: ExperimentIndex;
  /** The built dashboard; none = this edge has no page. */
  page?: PageFiles;
  /** Signs the page in by a link; none = it is signed in with an admin key alone. */
  signIn?: SignIn;
  /** Pages that may call `/v1/*`; `*` = all. */
  corsOrigins?: readonly string[];
}

/**
 * The path as the runtime hands it over: names keep their encoded slashes until a route decodes them, and `%2e%2e` or
 * a backslash, which `new URL` would take for a way up or down, are what they are.
 */
const rawPath = ({ url }: Request): string => {
  const start = url.indexOf('/', url.indexOf('://') + 3);
  const end = url.slice(start).search(/[?#]/);
  return url.slice(start, end < 0 ? undefined : start + end);
};

/** Anybody may ask: the stores and origins hear of it once in this time and isolate, ms. */
const READY_MEMORY_MS = 1_000;

/** @returns what says why the edge cannot serve: the registry answers and has its tables, and an origin answers; null = it can. */
function createReadiness({ keptPrompts, origins, intake: { now } }: Services) {
  let known: { error: ApiError | null; at: number } = { error: registryUnavailable(), at: -Infinity };
  const ask = async (): Promise<ApiError | null> => {
    try {
      // Of the last migration: without it not all of the tables are there.
      await keptPrompts.read({ tenant: '', id: '', at: null, now: 0 });
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      return registryUnavailable();
    }
    const base = await origins.bases.info(null);
    return base.ok ? null : base.error;
  };
  return async (): Promise<ApiError | null> => {
    if (now() - known.at < READY_MEMORY_MS) return known.error;
    known = { ...known, at: now() };
    const error = await ask();
    known = { error, at: now() };
    return error;
  };
}

export function createApp(services: Services): Hono<AppEnv> {
  const { names, keys, grants, origins, keyLedger, grantIndex, grantLedger, rights, adminKeyHash, usage } =
    services;
  const { intake, takeDropOnMiss, corsOrigins = [] } = services;
  const { registry, now } = intake;
  const pinSync = createPinSync({ pins: services.pins, registry, origins: origins.pins });
  const versions = withLastKnownGood(createVersionIndex(registry), {
    timeoutMs: KV_TIMEOUT_MS,
    maxAgeMs: LAST_KNOWN_GOOD_MS,
    maxEntries: LAST_KNOWN_GOOD_ENTRIES,
    retryAfterMs: RETRY_AFTER_MS,
    now,
  });
  const resolving = {
    ...{ names, versions, grants, absence: services.absence, registry, grantLedger, origins, keys, now },
    maySuggest: createSuggestionBudget({
      perSecond: SUGGESTIONS_PER_SECOND,
      maxKeys: MAX_SUGGESTED_KEYS,
      now,
    }),
    ...(takeDropOnMiss === undefined ? {} : { takeDropOnMiss }),
  };
  const gates = createGates(now);
  const app = new Hono<AppEnv>({ getPath: rawPath });
  app.use(requestId({ limitLength: MAX_REQUEST_ID }));
  app.use(observeRequest({ observer: services.observer ?? (() => undefined), now: intake.now }));
  for (const path of ['/dashboard/here', '/dashboard/browser/*']) app.use(path, enginePageHeaders);
  app.use('/dashboard/*', pageHeaders);
  if (corsOrigins.length > 0) for (const path of ['/base/*', '/v1/downloads/*']) app.use(path, sharedHeaders);
  app.use(
    secureHeaders({
      contentSecurityPolicy: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
      crossOriginResourcePolicy: 'same-site',
    }),
  );
  // Off unless configured: a page has no key of its own to send. What it asks to send (openai-node's x-stainless-*) is
  // allowed as it asks.
  if (corsOrigins.length > 0) {
    const origin = corsOrigins.includes('*') ? '*' : [...corsOrigins];
    for (const shared of ['/v1/*', '/base/*'])
      app.use(shared, cors({ origin, exposeHeaders: EXPOSED_HEADERS }));
  }
  app.use(drainBody);
  app.use('/v1/messages/*', anthropicErrors);
  // The second is what vLLM's clients ask.
  for (const path of ['/healthz', '/health']) {
    app.get(path, (context) => context.json({ status: 'ok' }));
    app.all(path, methodNotAllowed('GET'));
  }
  const problem = createReadiness(services);
  app.get('/readyz', async (context) => {
    const error = await problem();
    return error === null ? context.json({ status: 'ok' }) : fail(error);
  });
  app.all('/readyz', methodNotAllowed('GET'));
  app.route('/', completionRoutes({ ...services, ...resolving, gates }));
  app.route('/', tokenizerRoutes({ ...services, ...resolving, gates }));
  app.route('/', feedbackRoutes({ ...services, gate: gates.feedback, now }));
  app.route('/', modelRoutes({ ...resolving, gate: gates.models }));
  app.route('/', downloadRoutes({ ...services, ...intake, gate: gates.downloads }));
  app.route('/', baseRoutes({ page: services.page }));
  app.route('/', dashboardRoutes({ page: services.page, signIn: services.signIn }));
  app.use('/admin/*', noStore);
  app.use('/admin/*', requireAdmin({ adminKeyHash, keyLedger, grantLedger, gates, now }));
  app.use('/admin/*', repinAfterChange({ changed: services.pointersChanged, pinSync }));
  app.route('/', adminBlobRoutes(intake));
  app.route('/', adminDownloadRoutes(intake));
  app.route('/', adminVersionRoutes(intake));
  app.route('/', adminLifeCycleRoutes({ ...services, ...intake }));
  app.route('/', adminHistoryRoutes({ registry }));
  app.route('/', adminUpkeepRoutes({ ...services, ...intake, heldFiles: origins.files }));
  app.route('/', adminBackupRoutes({ ...services, ...intake }));
  app.route('/', adminEraseRoutes({ ...services, ...intake, originDrops: origins.drops }));
  app.route('/', adminVerifyRoutes(intake));
  app.route('/', adminEvaluateRoutes(intake));
  app.route('/', adminExperimentRoutes({ ...services, ...intake }));
  app.route('/', adminGrantRoutes({ registry, grantLedger, grantIndex, rights, keyLedger, now }));
  app.route('/', adminRefusalRoutes({ grantLedger, rights, now }));
  app.route('/', adminRoomRoutes({ registry, now }));
  app.route('/', adminKeyRoutes({ ...services, registry, now }));
  app.route('/', adminTenantLimitsRoutes({ ...services, now }));
  app.route('/', adminUsageRoutes({ usage, prices: services.prices, now: intake.now }));
  app.route('/', adminTrafficRoutes({ traffic: services.traffic, now }));
  app.route('/', adminRequestRoutes({ traffic: services.traffic }));
  app.route('/', adminPromptRoutes({ ...services, now }));
  app.route('/', adminOriginRoutes({ ...services, now }));
  app.route('/', adminWarmRoutes(intake));
  app.route('/', adminPinRoutes({ pins: services.pins, pinSync, registry, now }));
  app.route('/', adminOpenApiRoutes());
  app.notFound(({ req }) => fail(unknownPath(req.method, req.path)));
  app.onError((error, context) => {
    const known = error instanceof StoreUnavailable;
    logLine(known ? 'store_unavailable' : 'bug', {
      request_id: context.get('requestId'),
      reason: error.message,
      stack: known ? undefined : error.stack,
    });
    if (error instanceof DamagedRow)
      return fail({
        code: 'registry_damaged',
        message: 'What the registry has of this cannot be read. Its operator has to mend it.',
      });
    if (known) return fail(registryUnavailable(RETRY_AFTER_MS));
    return fail({ code: 'internal_error', message: 'Something went wrong here. Please try again.' });
  });
  return app;
}
