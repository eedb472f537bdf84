/** The expectation header of a guest program. */
export type VendorName = 'intel' | 'amd';
export type Comparison = '=' | '!=' | '<' | '<=' | '>' | '>=';

export interface ExpectationCondition {
  /** Era range in the words of `eraMatches`, e.g. '>=6.12'. */
  readonly kvm?: string;
  readonly vendor?: VendorName;
}

/** One `expect:` line. */
export interface Expectation {
  /** As written after `expect:`. */
  readonly text: string;
  readonly file: string;
  /** 1-based. */
  readonly line: number;
  readonly condition: ExpectationCondition;
}
export interface ProgramHeader {
  readonly file: string;
  readonly title: string;
  readonly expectations: readonly Expectation[];
}
