/** The fuzzer finds a broken rule of the model without knowing which one: a part of `npm run fuzz:planted`, bounded by cases. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const RULES = [
  '1 ICR bit 13 is not reserved',
  '2 ICR bit 12 reads back as written',
  '3 vectors below 16 are refused',
  '4 a level-triggered de-assert is delivered',
  '4 an edge without level is dropped',
  '5 INIT de-assert is carried out',
  '6 the first SIPI vector wins',
  '6 three NMIs leave three pending',
  '7 ExtINT is accepted',
  '8 the self shorthand works with Fixed only',
  '9 0xff is no broadcast in xAPIC mode',
  '11 lowest priority counts from the high end',
  '12 lowest priority to physical 0xff stays an election',
  '16 SELF_IPI ignores the bits above the vector',
  '17 a logical destination is no error',
  '19 the second map does not wrap at 2^32',
  '20 the result counts targets, accepted or not',
];

describe('rules that were broken on purpose', () => {
  it('are found, each within 8,000 cases', { timeout: 300_000 }, () => {
    const tsx = fileURLToPath(new URL('../node_modules/tsx/dist/cli.mjs', import.meta.url));
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [tsx, 'scripts/planted.ts', '--cases', '8000', ...RULES],
      { cwd: ROOT, encoding: 'utf8' },
    );
    expect(stderr).toBe('');
    expect(stdout).toContain(`${RULES.length} rules broken, ${RULES.length} found`);
    expect(status).toBe(0);
  });
});
