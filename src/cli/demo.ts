/** `kvmscope demo` (`npm start`): guest programs of `guest/`, told like a lab notebook. */
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type OpenedProgram, openProgram, runProgram } from '../base.ts';
import { type NotebookOptions, notebookExits } from '../trace/notebook.ts';
import { clip, flow, words } from '../trace/text.ts';
import { EXIT_FAILED, EXIT_OK } from './main.ts';
import { type Output, writeLines } from './output.ts';
import { runHeading, runSummary } from './run.ts';
import { locator } from './source.ts';

interface Chapter {
  readonly title: string;
  /** What to look at, before the notes. */
  readonly text: string;
  /** Under the checkout's `guest/`. */
  readonly file: string;
}

const CHAPTERS: readonly Chapter[] = [
  {
    title: 'A multicast: one vmcall, three receivers',
    text:
      'KVM_HC_SEND_IPI takes a bitmap of APIC ids in RBX and RCX, counted from the id in RDX, and in RSI what to send. One exit ' +
      'serves every receiver; RAX comes back as the number of local APICs that accepted.',
    file: 'pv-ipi/send-to-three.S',
  },
  {
    title: 'A unicast: one wrmsr 0x830, one receiver, and the fastpath',
    text:
      'In x2APIC mode the interrupt command register is one MSR: the destination in EDX, vector and modes in EAX. KVM looks at ' +
      'such a write before its ordinary exit handlers run; the verdict says whether it was sent there.',
    file: 'fastpath/icr-unicast.S',
  },
  {
    title: 'The receiving end: an interrupt wakes a sleeping processor',
    text:
      'Here the receiver has an interrupt handler. Watch the vector go from IRR into the guest (kvm_inj_virq), the handler end it ' +
      'with an EOI, and the handler count it in memory.',
    file: 'smp/hlt-woken-by-ipi.S',
  },
];

/** Bytes shown of one statement. */
const MAX_BYTES = 8;
const GUEST = join(dirname(fileURLToPath(import.meta.url)), '../../guest');

/** The program's text after its header, with the address and bytes of each statement; a macro call shows its first address. */
function* sourceLines({ path, program }: OpenedProgram, { paint, width }: NotebookOptions): Generator<string> {
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  const first = lines.findIndex((line) => line.trim() !== '' && !line.startsWith('#'));
  const rows = lines.slice(first).map((text, i) => {
    const line = first + i + 1;
    const own = program.lines.find((entry) => entry.file === path && entry.line === line && entry.length > 0);
    const entry = own ?? program.lines.find(({ calledFrom }) => calledFrom?.file === path && calledFrom.line === line);
    const offset = (entry?.address ?? program.origin) - program.origin;
    const bytes = own ? Buffer.from(program.bytes.subarray(offset, offset + Math.min(own.length, MAX_BYTES))) : [];
    const [code, ...comment] = text.trimEnd().split('#');
    return {
      place: `${String(line).padStart(5)}  ${entry ? entry.address.toString(16) : '    '}  `,
      bytes: Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' '),
      code: code.trimEnd(),
      comment: comment.length === 0 ? '' : `# ${comment.join('#').trim()}`,
    };
  });
  const widest = (texts: readonly string[]): number => Math.max(...texts.map((text) => text.length)) + 2;
  const bytesWidth = widest(rows.map((row) => row.bytes));
  const codeWidth = widest(rows.map((row) => row.code));
  for (const { place, bytes, code, comment } of rows) {
    const left = place + bytes.padEnd(bytesWidth);
    const text = clip(comment, width - left.length - codeWidth);
    yield `${paint('dim', left)}${text ? code.padEnd(codeWidth) : code}${paint('dim', text)}`.trimEnd();
  }
}

export async function demoCommand(output: Output): Promise<number> {
  const { paint, width } = output;
  let pass = true;
  const prose = (text: string): string[] => flow('', words(text), { paint, width, indent: 0, labelWidth: 0 });
  for (const [i, chapter] of CHAPTERS.entries()) {
    const path = relative(process.cwd(), join(GUEST, chapter.file));
    const opened = openProgram(path);
    const outcome = await runProgram(opened);
    const options: NotebookOptions = { width, paint, locate: locator(opened.program) };
    writeLines(output, [
      paint('title', `${i + 1}. ${chapter.title}`),
      '',
      ...prose(chapter.text),
      '',
      ...runHeading(opened, outcome, output),
      '',
      ...sourceLines(opened, options),
      '',
      ...notebookExits(outcome.run, options, Number.POSITIVE_INFINITY),
      ...runSummary(outcome, options),
      '',
    ]);
    outcome.vm.dispose();
    pass &&= outcome.pass;
  }
  writeLines(
    output,
    prose('Next: kvmscope run FILE --kvm 5.6, kvmscope test, kvmscope eras; guest/ has one idea per program.'),
  );
  return pass ? EXIT_OK : EXIT_FAILED;
}
