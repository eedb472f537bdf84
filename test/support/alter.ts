/** Makes an expectation false that holds: what the meta-test needs to show that expectations can fail at all. */
import type { Expectation, ExpectedValue } from '../../src/index.ts';

const OPPOSITE = { '=': '!=', '!=': '=', '<': '>=', '<=': '>', '>': '<=', '>=': '<' } as const;

/** The same expectation with another expected value; comparisons other than `=` are turned into their opposite. */
export function alterExpectation(expectation: Expectation): Expectation {
  const { subject, comparison, value } = expectation;
  if (subject.kind === 'preserved') {
    // RIP moves across every hypercall and every MSR write that does not fault.
    return { ...expectation, subject: { ...subject, registers: [...(subject.registers ?? []), 'rip'] } };
  }
  if (comparison !== '=') return { ...expectation, comparison: OPPOSITE[comparison] };
  if (value === undefined) throw new Error(`no value in "${expectation.text}"`);
  return { ...expectation, value: alterValue(value, subject.type) };
}

function alterValue(value: ExpectedValue, type: Expectation['subject']['type']): ExpectedValue {
  switch (value.kind) {
    case 'number':
      return { kind: 'number', term: { ...value.term, addend: value.term.addend + 1n } };
    case 'list':
      return { kind: 'list', terms: [...value.terms, { addend: 0n, text: '0' }] };
    case 'set': {
      // A vector the set does not hold; sets of the guests name their vectors by number.
      const holds = (vector: bigint) => value.ranges.some(([a, b]) => a.addend <= vector && vector <= b.addend);
      const other = Array.from({ length: 256 }, (_, i) => BigInt(i)).find((vector) => !holds(vector)) ?? 0n;
      const term = { addend: other, text: String(other) };
      return { kind: 'set', ranges: [...value.ranges, [term, term]] };
    }
    case 'text':
      if (type === 'number-or-none') return { kind: 'number', term: { addend: 0n, text: '0' } };
      if (type === 'end') return { kind: 'text', text: value.text === 'budget' ? 'halted' : 'budget' };
      return { kind: 'text', text: `${value.text}?` };
  }
}
