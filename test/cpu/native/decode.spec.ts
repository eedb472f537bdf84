/**
 * Instruction lengths of the core's decoder against iced-x86, on random bytes that both take for the same instruction. The core is asked
 * through its fetch: it must not touch the page behind the last byte, and must touch it when that byte is missing.
 */
import { describe, expect, it } from 'vitest';
import { makeImage, randomInstruction } from './cases.ts';
import { inBoth } from './forms.ts';
import { BITS, CODE16, COMPAT32, LONG, type Mode } from './layout.ts';
import { Model } from './model.ts';
import { Random } from './random.ts';

const CASES = Number(process.env.KVMSCOPE_NATIVE_CASES ?? 30_000);
const UD = 6;
/** What the core, as an Intel processor, must refuse: undefined on purpose, not in the core, AMD's alone, refused at CPL 3 or without CR4.PKE. */
const REFUSED: readonly ReadonlySet<string>[] = [
  new Set(['UD', 'X87', 'VMMCALL', 'PKRU', 'CLZERO', 'MONITOR', 'MWAIT']),
  new Set(['UD', 'X87', 'VMMCALL', 'PKRU', 'CLZERO', 'MONITOR', 'MWAIT', 'SYSCALL', 'SYSRET']),
  new Set(['UD', 'X87', 'VMMCALL', 'PKRU', 'CLZERO', 'MONITOR', 'MWAIT', 'SYSCALL', 'SYSRET']),
];

describe('decoder', () => {
  for (const mode of [LONG, COMPAT32, CODE16] as const satisfies Mode[]) {
    it(`takes as many bytes as iced-x86 in ${BITS[mode]}-bit code, and refuses none of its table`, {
      timeout: 600_000,
    }, () => {
      const random = new Random(0x6465 + mode);
      const model = new Model(mode, 'intel', makeImage(1));
      const wrong: string[] = [];
      let compared = 0;
      for (let n = 0; n < CASES; n++) {
        const bytes = randomInstruction(random, mode);
        const found = inBoth(mode, bytes);
        if (!found?.form) continue;
        compared++;
        const { form, length } = found;
        const whole = model.truncated(bytes, length);
        const text = bytes.slice(0, 15).map((byte) => byte.toString(16).padStart(2, '0'));
        if (whole.needsMore)
          wrong.push(`${text.join(' ')}: ${form.row.mnemonic} has ${length} bytes, the core wants more`);
        else if (whole.trap === UD && !REFUSED[mode]?.has(form.handler))
          wrong.push(`${text.join(' ')}: ${form.row.mnemonic} is refused`);
        if (length > 1 && !model.truncated(bytes, length - 1).needsMore) {
          wrong.push(`${text.join(' ')}: ${form.row.mnemonic} has ${length} bytes, the core is content with fewer`);
        }
      }
      expect(wrong.slice(0, 20)).toEqual([]);
      expect(compared).toBeGreaterThan(CASES / 4);
    });
  }
});
