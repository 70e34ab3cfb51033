/** Why an adapter was refused; the codes are listed in docs/adapter-format.md, each with what to do. */
export type AdapterErrorCode = string & { readonly brand?: 'AdapterErrorCode' };

/** A permanent failure: the same bytes will be refused again. */
export class AdapterFormatError extends Error {
  override readonly name = 'AdapterFormatError';
  readonly code: AdapterErrorCode;
  /** File, as the caller named it. */
  readonly path: string | undefined;
  /** Tensor name or configuration key that is at fault. */
  readonly subject: string | undefined;

  constructor(params: { code: AdapterErrorCode; message: string; path?: string; subject?: string }) {
    super(params.message);
    this.code = params.code;
    this.path = params.path;
    this.subject = params.subject;
  }
}
