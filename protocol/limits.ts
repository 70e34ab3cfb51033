/** Limits that more than one part enforces. Each is tested at its boundary. */

const MiB = 1024 * 1024;

/** Request body of the client API, bytes. Long enough for a 128k-token prompt, short enough to buffer. */
export const MAX_BODY_BYTES = 1_000_000;
/** Nesting depth of arrays and objects in a body. Ours are six deep; ten times that leaves room for metadata. */
export const MAX_JSON_DEPTH = 64;
/** Arrays and objects in a body: every message and part of the longest conversation, several times over. */
export const MAX_JSON_CONTAINERS = 65_536;
/** Fields of a request, known or not. */
export const MAX_FIELDS = 128;
export const MAX_MESSAGES = 2_048;
/** Content parts of all messages of a request: four per message. Validating one takes 5 us. */
export const MAX_CONTENT_PARTS = 8_192;
/** Variables for the chat template: bytes as JSON, and nesting depth. */
export const MAX_TEMPLATE_KWARGS_BYTES = 8_192;
export const MAX_TEMPLATE_KWARGS_DEPTH = 8;
/** Stop tokens of one request. */
export const MAX_STOP_TOKENS = 128;
/**
 * OpenAI allows 4, vLLM and llama.cpp any number. Each is searched after each token: 32 of 256 take 0.2 ms at
 * most.
 */
export const MAX_STOP_SEQUENCES = 32;
export const MAX_STOP_CHARACTERS = 256;
export const MAX_TOP_LOGPROBS = 20;
/** Prompts per text completion: lm-eval and others send batches of up to 128. */
export const MAX_PROMPTS = 128;
/** Tokens of a list of prompts; a single prompt is limited by the context. */
export const MAX_PROMPT_LIST_TOKENS = 131_072;
/** Log-probabilities of the tokens of a list of prompts: each takes about 50 bytes here and 50 in the answer. */
export const MAX_PROMPT_LIST_SCORES = 1_048_576;
/** Default token limit of a text completion, as in OpenAI and vLLM. */
export const DEFAULT_TEXT_TOKENS = 16;
/** Answers to one prompt (`n`); each takes a row of the batch. */
export const MAX_CHOICES = 8;
/** Texts per embeddings request, as in OpenAI. */
export const MAX_EMBEDDING_INPUTS = 2_048;
export const MAX_LOGIT_BIAS = 300;
/** Token ids are below this for any base; the base's own limit is checked where it is known. */
export const MAX_VOCABULARY = 2 ** 24;
/** OpenAI's limits of a request's metadata: pairs, characters of a key, characters of a value. */
export const MAX_METADATA = { pairs: 16, key: 64, value: 512 } as const;
/** Adapters in one chain: a tree eight levels deep, like names. */
export const MAX_CHAIN = 8;
/** Adapters that one request adds to its model's. */
export const MAX_COMPOSED = MAX_CHAIN - 1;
/**
 * Largest scale of one of them, in either direction. Beyond a few times the scale used in training, an adapter
 * only breaks the model.
 */
export const MAX_COMPOSED_SCALE = 16;

/** A Workers KV value has at most 25 MiB; 24 leaves room for metadata. */
export const MAX_PART_BYTES = 24 * MiB;
/** 42 parts: a gigabyte, well above rank 64 on all linears of an 8B model in bfloat16. */
export const MAX_PARTS = 42;
/** Rank of one adapter module; published PEFT adapters go up to 256. */
export const MAX_RANK = 512;

export const MAX_NAME_SEGMENT = 64;
export const MAX_NAME_SEGMENTS = 8;
/** A KV key has at most 512 bytes; names are ASCII, so 256 characters leave room for prefixes. */
export const MAX_NAME_LENGTH = 256;

/** Names whose live chains origins keep in memory: an origin holds a few gigabytes. */
export const MAX_PINNED_NAMES = 64;

/** A signature's timestamp may differ this much from the receiver's clock. */
export const SIGNATURE_WINDOW_MS = 60_000;
/** Length limit of `x-request-id`; longer or malformed ones are replaced. */
export const MAX_REQUEST_ID = 128;

/** Longest silence of an origin's stream, ms: proxies in between cut silent connections, nginx after 60 s. */
export const STREAM_HEARTBEAT_MS = 10_000;
/**
 * An origin's stream without data for this long is considered dead, ms: it allows for two missing heartbeats
 * and a late third. The edge then counts the usage, for which a disconnected client's request has 30 s.
 */
export const STREAM_STALL_MS = 25_000;

/**
 * OpenAI's limit of `prompt_cache_key` and `safety_identifier`, and graft's of other client identifiers,
 * characters.
 */
export const MAX_CLIENT_KEY = 64;
export const MAX_USER_CHARACTERS = 512;

/** Variants of one experiment. */
export const MAX_VARIANTS = 10;
/** Smaller arms never fill: a tenth of a percent of ten thousand units is ten. */
export const MIN_VARIANT_WEIGHT = 0.001;
/** Three thirds written with six digits still sum to one. */
export const WEIGHT_TOLERANCE = 1e-5;
/** Days before a winner can be proposed: a quarter; feedback of the first units is long over by then. */
export const MAX_MIN_DAYS = 90;
/** Metrics, and guardrails, of one experiment. */
export const MAX_EXPERIMENT_METRICS = 20;
export const MAX_RAMP_STEPS = 20;
/** Longest time that a step of a ramp can be held, minutes: thirty days. */
export const MAX_HOLD_MINUTES = 43_200;
/** Testers, tenants or header values of an experiment; it is one value in KV, read by the hot path. */
export const MAX_EXPERIMENT_LIST = 200;
/** Length of an end user's name, and of an experiment's seed. OpenAI's `safety_identifier` has at most 64. */
export const MAX_UNIT_CHARACTERS = 256;
/** Daily tokens of a judge and its shadow: maximum and default. */
export const MAX_JUDGE_TOKENS = 1_000_000_000;
export const DEFAULT_JUDGE_TOKENS = 500_000;
/** Judged pairs of an experiment that can be kept with their texts. */
export const MAX_KEPT_PAIRS = 200;
