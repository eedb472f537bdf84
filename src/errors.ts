/** Codes of {@link KvmscopeError}: what kind of user input was wrong. */
export type KvmscopeErrorCode =
  | 'usage' // a command line or API option that makes no sense
  | 'not-found' // a file or symbol that does not exist
  | 'syntax' // guest source that does not assemble
  | 'header' // an expectation header that does not parse
  | 'image' // an ELF or flat image that cannot be loaded
  | 'memory' // a program or address that does not fit guest memory
  | 'recording' // a recording of KVM that cannot be read
  | 'campaign' // a campaign directory or queue that cannot be used
  | 'engine' // an engine that is not installed or cannot be used
  | 'build'; // the WebAssembly core has not been built

/**
 * A mistake of the user (never of the guest): one clear line saying what, where and what to do.
 * Everything a guest program can cause is a typed result instead.
 */
export class KvmscopeError extends Error {
  readonly code: KvmscopeErrorCode;

  constructor(code: KvmscopeErrorCode, message: string) {
    super(message);
    this.name = 'KvmscopeError';
    this.code = code;
  }
}

/** A file that `npm run prepare` makes is not there. */
export const notBuilt = (file: string): KvmscopeError =>
  new KvmscopeError('build', `${file} is missing: run \`npm run prepare\` to build the CPU core`);
