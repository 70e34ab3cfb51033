/** Limits that more than one part enforces. Each is tested at its boundary; docs/reference/limits.md lists them. */

const MiB = 1024 * 1024;

/** Request body of the client API. Holds a prompt of 128,000 tokens and is small enough to buffer. */
export const MAX_BODY_BYTES = 1_000_000;
/** Arrays and objects nested in one another in a body. Our own fields need six; the rest is for metadata. */
export const MAX_JSON_DEPTH = 64;
/** Arrays and objects in a body: several times what the longest conversation needs. */
export const MAX_JSON_CONTAINERS = 65_536;
/** Fields of a request, known or not. */
export const MAX_FIELDS = 128;
/** Messages of a chat, or items of a response's `input`. */
export const MAX_MESSAGES = 2_048;
/** Content parts in all messages of a request. Checking one takes 5 us. */
// Four a message.
export const MAX_CONTENT_PARTS = 8_192;
/** Variables for the chat template, as JSON. */
export const MAX_TEMPLATE_KWARGS_BYTES = 8_192;
/** Objects and lists nested in one another in these variables. */
export const MAX_TEMPLATE_KWARGS_DEPTH = 8;
/** Entries of `stop_token_ids`. */
export const MAX_STOP_TOKENS = 128;
/** Stop texts. OpenAI takes 4, vLLM any number. Each is searched for after every token, 0.2 ms for all. */
export const MAX_STOP_SEQUENCES = 32;
/** Length of one stop text. */
export const MAX_STOP_CHARACTERS = 256;
/** Alternatives listed beside each token. OpenAI's limit. */
export const MAX_TOP_LOGPROBS = 20;
/** Prompts of one text completion. lm-eval sends batches of up to 128. */
export const MAX_PROMPTS = 128;
/** Tokens of a list of prompts together. A single prompt is limited by the context alone. */
export const MAX_PROMPT_LIST_TOKENS = 131_072;
/** Log-probabilities for a list of prompts. Each takes about 50 bytes in memory and 50 in the answer. */
export const MAX_PROMPT_LIST_SCORES = 1_048_576;
/** Default of `max_tokens` in text completions, as in OpenAI and vLLM. */
export const DEFAULT_TEXT_TOKENS = 16;
/** Answers to one prompt (`n`). Each takes a row of the batch. */
export const MAX_CHOICES = 8;
/** Texts of one embeddings request, and pairs of one score or rerank request. OpenAI's limit. */
export const MAX_EMBEDDING_INPUTS = 2_048;
/** Characters of all pairs of one score or rerank request: each document is read behind the whole query. */
export const MAX_PAIR_CHARACTERS = 4_000_000;
/** Probabilities in one answer of a classification head: texts times classes. Each takes 20 bytes. */
export const MAX_PROBABILITIES = 262_144;
/** Entries of `logit_bias`. */
export const MAX_LOGIT_BIAS = 300;
/** Upper bound of token ids, whatever the base. Each base checks its own vocabulary too. */
export const MAX_VOCABULARY = 2 ** 24;
/** A response's `metadata`: number of pairs, characters of a key and of a value. OpenAI's limits. */
export const MAX_METADATA = { pairs: 16, key: 64, value: 512 } as const;
/** Adapters in one chain. Names have as many levels. */
export const MAX_CHAIN = 8;
/** Adapters that one request adds to its model's chain. */
export const MAX_COMPOSED = MAX_CHAIN - 1;
/** Scale of an added adapter, positive or negative. Well below it an adapter already breaks the model. */
export const MAX_COMPOSED_SCALE = 16;

/** One part of an uploaded file. A value in Workers KV ends at 25 MiB; the rest holds what travels with a part. */
export const MAX_PART_BYTES = 24 * MiB;
/** Parts of a file: a gigabyte, far above rank 64 on all linear layers of an 8B model in bfloat16. */
export const MAX_PARTS = 42;
/** Rank of one module of an adapter. Published PEFT adapters end at 256. */
export const MAX_RANK = 512;
/** Classes of one classification head. */
export const MAX_CLASSES = 1_000;
/** Length of a class's label. */
export const MAX_LABEL_CHARACTERS = 256;
/** Tokens that an activated adapter (`alora_invocation_tokens`) waits for. Real ones are a line of a chat template. */
export const MAX_INVOCATION_TOKENS = 256;

/** Characters between two slashes of a name. */
export const MAX_NAME_SEGMENT = 64;
/** Levels of a name. */
export const MAX_NAME_SEGMENTS = 8;
/** Characters of a name. A KV key ends at 512 bytes, which leaves room for prefixes. */
export const MAX_NAME_LENGTH = 256;

/** Pinned names. Every origin holds their live chains in a few gigabytes of memory. */
export const MAX_PINNED_NAMES = 64;

/** Largest difference between the clocks of edge and origin. Signed calls beyond it are rejected. */
export const SIGNATURE_WINDOW_MS = 60_000;
/** Characters of an `x-request-id`. Longer or unprintable ones are replaced. */
export const MAX_REQUEST_ID = 128;

/** Longest silence of a stream before a comment is sent. Proxies cut silent connections, nginx after 60 s. */
export const STREAM_HEARTBEAT_MS = 10_000;
/**
 * Silence after which the edge gives up an origin's stream: two heartbeats may be lost and a third be late. The edge
 * then counts what was used, within the 30 s that Cloudflare allows after the client has gone.
 */
export const STREAM_STALL_MS = 25_000;

/** Characters of `prompt_cache_key` and `safety_identifier`. OpenAI's limit. */
export const MAX_CLIENT_KEY = 64;
/** Length of `user`. */
export const MAX_USER_CHARACTERS = 512;

/** Variants of one experiment. */
export const MAX_VARIANTS = 10;
/** Smallest share of a variant. Smaller arms never fill: of ten thousand users it gets ten. */
export const MIN_VARIANT_WEIGHT = 0.001;
/** Weights may differ from a sum of 1 by this much, so that thirds can be written with six digits. */
export const WEIGHT_TOLERANCE = 1e-5;
/** Longest `min_days`: a quarter. */
// Feedback on the first units is long over by then.
export const MAX_MIN_DAYS = 90;
/** Metrics, and guardrails, of one experiment. */
export const MAX_EXPERIMENT_METRICS = 20;
/** Steps of a ramp. */
export const MAX_RAMP_STEPS = 20;
/** Longest time that a ramp holds a step. */
export const MAX_HOLD_MINUTES = 43_200;
/** Testers, tenants or header values that an experiment lists. They are read with every request. */
// The experiment is one value in KV.
export const MAX_EXPERIMENT_LIST = 200;
/** Name of an end user, and seed of an experiment. */
// OpenAI's `safety_identifier` ends at 64.
export const MAX_UNIT_CHARACTERS = 256;
/** Largest daily budget of a judge and its shadow. */
export const MAX_JUDGE_TOKENS = 1_000_000_000;
/** Default of that budget. */
export const DEFAULT_JUDGE_TOKENS = 500_000;
/** Judged pairs that `keep_pairs` can keep with their texts. */
export const MAX_KEPT_PAIRS = 200;
