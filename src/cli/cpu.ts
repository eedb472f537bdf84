/** `kvmscope cpu`: the virtual processor, its features by vendor; with --list every instruction form and what is missing. */
import { FEATURES, type Feature, featureNames, MISSING, OPCODES, type OpcodeRow, type Vendor } from '../index.ts';
import { document } from '../trace/json.ts';
import { flow, words } from '../trace/text.ts';
import { EXIT_OK } from './main.ts';
import { type Output, writeLines } from './output.ts';

export interface CpuFlags {
  readonly vendor?: Vendor;
  readonly list?: boolean;
  readonly json?: boolean;
}

const featuresOf = (row: OpcodeRow): string[] =>
  row.attributes.filter((attribute) => attribute.startsWith('f:')).map((attribute) => attribute.slice(2));

function* summary(vendor: Vendor, output: Output): Generator<string> {
  const { paint, width } = output;
  const layout = { width, paint, indent: 0, labelWidth: 10 };
  yield* flow('vendor', words(vendor), layout);
  yield* flow('features', words(featureNames(vendor).join(' ')), layout);
}

const shownBy = ({ vendors }: Feature): string =>
  vendors.length === 2 ? '' : vendors.length === 0 ? '  (not in CPUID)' : `  (${vendors[0]} only)`;

function* list({ paint }: Output): Generator<string> {
  const opcodeWidth = Math.max(...OPCODES.map(({ opcode }) => opcode.length)) + 2;
  const mnemonicWidth = Math.max(...OPCODES.map(({ mnemonic }) => mnemonic.length)) + 2;
  const group = function* (rows: readonly OpcodeRow[]): Generator<string> {
    for (const { opcode, mnemonic, operands } of rows)
      yield `  ${opcode.padEnd(opcodeWidth)}${mnemonic.padEnd(mnemonicWidth)}${operands.join(',')}`.trimEnd();
    yield '';
  };
  yield paint('title', 'every x86-64 processor');
  yield* group(OPCODES.filter((row) => featuresOf(row).length === 0));
  for (const feature of FEATURES) {
    const rows = OPCODES.filter((row) => featuresOf(row).includes(feature.name));
    if (rows.length === 0) continue;
    yield paint('title', feature.name) + paint('dim', shownBy(feature));
    yield* group(rows);
  }
  yield paint('title', 'missing') + paint('dim', '  (#UD)');
  for (const what of MISSING) yield `  ${what}`;
}

export async function cpuCommand({ vendor = 'intel', list: all, json }: CpuFlags, output: Output): Promise<number> {
  if (json) {
    const forms = OPCODES.map((row) => ({
      opcode: row.opcode,
      mnemonic: row.mnemonic,
      operands: row.operands,
      features: featuresOf(row),
    }));
    const fields = { vendor, features: featureNames(vendor), ...(all ? { forms, missing: MISSING } : {}) };
    output.out(document('cpu', true, fields));
  } else writeLines(output, all ? list(output) : summary(vendor, output));
  return EXIT_OK;
}
