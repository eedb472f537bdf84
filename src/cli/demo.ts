/** `kvmscope demo` (`npm start`): guest programs of `guest/` on four vCPUs, told like a lab notebook. */
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type OpenedProgram, openProgram, runProgram } from '../index.ts';
import { type NotebookOptions, notebookExits } from '../trace/notebook.ts';
import { flow, words } from '../trace/text.ts';
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
];

const GUEST = join(dirname(fileURLToPath(import.meta.url)), '../../guest');
const DEMO_VCPUS = 4;

/** The program's own instructions: address, bytes, source. */
function* sourceLines({ path, program }: OpenedProgram, { paint, width }: NotebookOptions): Generator<string> {
  for (const { file, line, address, length, source } of program.lines) {
    if (file !== path) continue;
    const offset = Number(address) - program.origin;
    const bytes = Array.from(program.bytes.subarray(offset, offset + length), (byte) =>
      byte.toString(16).padStart(2, '0'),
    );
    const place = `${String(line).padStart(5)}  ${address.toString(16).padStart(6)}  ${bytes.join(' ').padEnd(24)}`;
    yield (paint('dim', place) + source.trim().replace(/\t/g, ' ')).slice(0, width + 20);
  }
}

export async function demoCommand(output: Output): Promise<number> {
  const { paint, width } = output;
  let pass = true;
  const prose = (text: string): string[] => flow('', words(text), { paint, width, indent: 0, labelWidth: 0 });
  for (const [i, chapter] of CHAPTERS.entries()) {
    const path = relative(process.cwd(), join(GUEST, chapter.file));
    const opened = openProgram(path, { vcpus: DEMO_VCPUS });
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
