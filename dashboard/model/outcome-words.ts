/** What became of a request, in words. */
const CODES: Readonly<Record<string, string>> = {
  adapter_loading: 'the adapter was still on its way',
  adapter_unavailable: 'the adapter could not be brought to an origin',
  context_length_exceeded: 'prompt and answer do not fit the context',
  deadline_exceeded: 'it took too long',
  edge_busy: 'the edge had too much to read at once',
  insufficient_quota: 'a budget is used up',
  internal_error: 'a mistake of graft’s; the log has it',
  invalid_request: 'a field is wrong',
  model_not_found: 'no such name, or not for this key',
  model_withdrawn: 'what the name stands on was retired',
  origin_unavailable: 'no origin could serve',
  queue_full: 'the origins had no room',
  quota_damaged: 'a counter of limits has to be reset',
  rate_limit_exceeded: 'a limit of the key or its tenant',
  registry_unavailable: 'the registry did not answer',
  request_too_large: 'the body is too large',
  unsupported_parameter: 'a parameter that the base cannot do',
};

export function outcomeWords({ status, code }: { status: number; code: string }): string {
  if (code !== '') return CODES[code] ?? '';
  if (status < 400) return 'answered';
  if (status === 499) return 'the client left';
  if (status === 502) return 'the stream broke off';
  return status >= 500 ? 'it failed' : 'it was refused';
}
