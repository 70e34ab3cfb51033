/** Limits that more than one part enforces. Each is tested at its boundary. */

const MiB = 1024 * 1024;

/** Request body of the client API, bytes. Long enough for a 128k-token prompt, short enough to buffer. */
export const MAX_BODY_BYTES = 1_000_000;
/** Arrays and objects inside one another in a body. Ours are six deep; ten times that leaves room for metadata. */
export const MAX_JSON_DEPTH = 64;
/** Arrays and objects in a body: every message and part of the longest conversation, several times over. */
export const MAX_JSON_CONTAINERS = 65_536;
/** Fields of a request, known or not. */
export const MAX_FIELDS = 128;
export const MAX_MESSAGES = 2_048;
/** Content parts of all messages of a request: four a message. What is wrong with each of them is looked at: 5 us. */
export const MAX_CONTENT_PARTS = 8_192;
/** Variables for the chat template, bytes as JSON, and objects and lists inside one another. */
export const MAX_TEMPLATE_KWARGS_BYTES = 8_192;
export const MAX_TEMPLATE_KWARGS_DEPTH = 8;
/** Tokens that end an answer, of one request. */
export const MAX_STOP_TOKENS = 128;
/** OpenAI has 4, vLLM and llama.cpp any number. Each is looked for after each token: 32 of 256 take 0.2 ms at most. */
export const MAX_STOP_SEQUENCES = 32;
export const MAX_STOP_CHARACTERS = 256;
export const MAX_TOP_LOGPROBS = 20;
/** Prompts of one text completion: lm-eval and others send them in batches of up to 128. */
export const MAX_PROMPTS = 128;
/** Tokens of a list of prompts; one alone has the context as its limit. */
export const MAX_PROMPT_LIST_TOKENS = 131_072;
/** Log-probabilities of the tokens of a list of prompts: each takes some 50 bytes here and 50 in the answer. */
export const MAX_PROMPT_LIST_SCORES = 1_048_576;
/** Tokens of a text completion whose request does not say how many: OpenAI's and vLLM's number. */
export const DEFAULT_TEXT_TOKENS = 16;
/** Answers to one prompt (`n`); each takes a row of the batch. */
export const MAX_CHOICES = 8;
/** Texts of one embeddings request, as OpenAI's. */
export const MAX_EMBEDDING_INPUTS = 2_048;
export const MAX_LOGIT_BIAS = 300;
/** Token ids end below this whatever the base is; the base's own end is checked where it is known. */
export const MAX_VOCABULARY = 2 ** 24;
/** OpenAI's limits of a request's metadata: pairs, characters of a key, characters of a value. */
export const MAX_METADATA = { pairs: 16, key: 64, value: 512 } as const;
/** Adapters in one chain: a tree eight levels deep, as names are. */
export const MAX_CHAIN = 8;
/** Adapters that one request adds to its model's. */
export const MAX_COMPOSED = MAX_CHAIN - 1;
/** Largest scale of one of them, either way. Beyond a few times its training's an adapter only breaks the model. */
export const MAX_COMPOSED_SCALE = 16;

/** A Workers KV value ends at 25 MiB; 24 leaves room for what travels with a part. */
export const MAX_PART_BYTES = 24 * MiB;
/** 42 parts: a gigabyte, well above rank 64 on all linears of an 8B model in bfloat16. */
export const MAX_PARTS = 42;
/** Rank of one adapter module; PEFT adapters in the wild end at 256. */
export const MAX_RANK = 512;

export const MAX_NAME_SEGMENT = 64;
export const MAX_NAME_SEGMENTS = 8;
/** A KV key ends at 512 bytes; names are ASCII, so 256 characters leave room for prefixes. */
export const MAX_NAME_LENGTH = 256;

/** Names whose live chains origins are asked to keep in memory: what an origin holds is a few gigabytes. */
export const MAX_PINNED_NAMES = 64;

/** A signature's stamp may differ this much from the receiver's clock. */
export const SIGNATURE_WINDOW_MS = 60_000;
/** Length cap of `x-request-id`; longer or odd ones are replaced. */
export const MAX_REQUEST_ID = 128;

/** A stream of an origin is never silent for longer, ms: proxies in between cut what is, nginx after 60 s. */
export const STREAM_HEARTBEAT_MS = 10_000;
/**
 * A stream of an origin in which nothing came for this long is dead, ms: two heartbeats may be missing, and there is
 * time for a third to be late. An edge counts what it used then, for which a request whose client has gone has 30 s.
 */
export const STREAM_STALL_MS = 25_000;

/** OpenAI's limit of `prompt_cache_key` and `safety_identifier`, and ours of what else names a client, characters. */
export const MAX_CLIENT_KEY = 64;
export const MAX_USER_CHARACTERS = 512;

/** Variants of one experiment. */
export const MAX_VARIANTS = 10;
/** Smaller arms never fill: at a tenth of a percent, ten thousand units give ten. */
export const MIN_VARIANT_WEIGHT = 0.001;
/** Three thirds written with six digits are one. */
export const WEIGHT_TOLERANCE = 1e-5;
/** Days before which no winner is proposed: a quarter; feedback of the first units is long over then. */
export const MAX_MIN_DAYS = 90;
/** Metrics, and guardrails, of one experiment. */
export const MAX_EXPERIMENT_METRICS = 20;
export const MAX_RAMP_STEPS = 20;
/** Longest time that a step of a ramp can be held, minutes: thirty days. */
export const MAX_HOLD_MINUTES = 43_200;
/** Testers, tenants or values of a header that an experiment lists; it is one value in KV, read by the hot path. */
export const MAX_EXPERIMENT_LIST = 200;
/** Name of an end user, seed of an experiment. OpenAI's `safety_identifier` ends at 64. */
export const MAX_UNIT_CHARACTERS = 256;
/** Tokens a day that a judge and its shadow may use, at most, and unless another number is given. */
export const MAX_JUDGE_TOKENS = 1_000_000_000;
export const DEFAULT_JUDGE_TOKENS = 500_000;
/** Judged pairs of an experiment that are kept with their texts, where that is asked for. */
export const MAX_KEPT_PAIRS = 200;
