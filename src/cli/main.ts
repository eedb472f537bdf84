/**
 * The command line: arguments, messages, exit codes. Everything it does, a library user can do through `src/index.ts`; a command's
 * own module is loaded only when the command runs, so that `--help` and mistakes answer at once.
 *
 * Exit codes: 0 fine; 1 an expectation does not hold, the guest did not end well, or fuzzing found something; 2 the input makes no sense;
 * 70 a bug here.
 */
import { Command, CommanderError, Option } from 'commander';
import type { KvmscopeError } from '../base.ts';
import { addCampaignOptions, addFuzzTools } from './fuzz-options.ts';
import { addRace } from './fuzz-race-options.ts';
import { append, collect, exitLimit, wholeNumber } from './options.ts';
import { type Output, processOutput } from './output.ts';

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
export const EXIT_INTERNAL = 70;

/** Where a bug in kvmscope should be told. */
const REPORT = 'please report this with the command that caused it (KVMSCOPE_DEBUG=1 shows where it happened)';

/** What a command hands back: its exit code. */
type Action = (output: Output) => Promise<number>;

/** KvmscopeError and its subclasses by name: loading their module would load everything. */
const isUserError = (error: unknown): error is KvmscopeError =>
  error instanceof Error && 'code' in error && ['KvmscopeError', 'AssemblyError'].includes(error.name);

/** Flags that are called otherwise than the library's option. */
const LIBRARY_NAMES: Readonly<Record<string, string>> = { smp: 'vcpus', mem: 'memory', apicApi: 'x2apicApi' };

/** A message about an option of the library (`maxSteps must be …`) as one about the flag of the command that has given it. */
const aboutFlags = (message: string, command: Command | undefined): string =>
  message.replace(/^[a-z]\w*(?=:| must )/i, (name) => {
    const flag = (option: Option): string => LIBRARY_NAMES[option.attributeName()] ?? option.attributeName();
    return command?.options.find((option) => flag(option) === name)?.long ?? name;
  });

function reportError(error: unknown, output: Output, command: Command | undefined): number {
  if (isUserError(error)) {
    // Assembly errors are a list with source lines and carets: the place comes first, as compilers have it.
    const lines = error.message.split('\n');
    const line = (): string => `kvmscope: ${aboutFlags(error.message, command)}\n`;
    output.err(lines.length > 1 ? `${error.message}\nkvmscope: nothing was run\n` : line());
    return EXIT_USAGE;
  }
  const message = error instanceof Error ? error.message : String(error);
  output.err(`kvmscope: internal error: ${message.split('\n')[0]}; ${REPORT}\n`);
  if (process.env.KVMSCOPE_DEBUG && error instanceof Error) output.err(`${error.stack}\n`);
  return EXIT_INTERNAL;
}

/** The command tree; `run` is told which action was chosen. */
export function buildProgram(output: Output, run: (action: Action) => void): Command {
  const program = new Command('kvmscope');
  program
    .description('Run x86 guest programs on a model of KVM and see every exit, register and interrupt.')
    .version(VERSION, '-V, --version')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => output.out(text),
      writeErr: (text) => output.err(text),
      outputError: (text, write) =>
        write(
          `kvmscope: ${text
            .replace(/^error: /, '')
            .trim()
            .replace(/\s*\n\s*/g, ' ')}\n`,
        ),
    })
    .showSuggestionAfterError()
    .addHelpText('after', '\nExit codes: 0 fine, 1 an expectation or a run failed, 2 bad input, 70 a bug in kvmscope.');

  const json = new Option('--json', 'print one JSON document (versioned, see README)');
  const kvm = new Option(
    '--kvm <era>',
    'KVM version, e.g. 5.6 or 6.18; repeat it or list several with commas',
  ).argParser(collect);
  const vendor = () => new Option('--vendor <name>', 'CPU vendor').choices(['intel', 'amd']);
  const engine = () =>
    new Option('--engine <name>', 'what executes guest code; unicorn: an installed unicorn.js').choices([
      'core',
      'unicorn',
    ]);
  const seed = () => new Option('--seed <n>', 'seed of the scheduler').argParser(wholeNumber);

  program
    .command('run')
    .description('run one guest program and show each exit, the final registers and APICs, and its expectations')
    .argument('<file>', 'assembler source (.S), ELF or flat binary')
    .option('--vcpus <n>', 'number of virtual CPUs, 1 to 4096', wholeNumber)
    .addOption(kvm)
    .addOption(vendor())
    .addOption(engine())
    .addOption(seed())
    .option('--schedule <turns>', 'vCPUs that make the first steps, one after the other, e.g. 0*3,1,0,2*5')
    .option('--budget <n>', 'steps over all vCPUs before the run is stopped', wholeNumber)
    .option('--memory <size>', 'guest RAM, e.g. 16M')
    .addOption(
      new Option('--mode <mode>', 'state at start').choices(['reset', 'real16', 'prot32', 'long64', 'compat32']),
    )
    .addOption(new Option('--cpl <n>', 'privilege level at start').choices(['0', '3']))
    .addOption(
      new Option('--apic <mode>', 'local APICs at start').choices(['x2apic', 'xapic', 'reset', 'disabled', 'none']),
    )
    .addOption(new Option('--aps <state>', 'other vCPUs at start').choices(['halted', 'wait-for-sipi', 'run']))
    .option('--ids <list>', 'APIC id of each vCPU, e.g. 0,5,64-70')
    .addOption(new Option('--apicv <mode>', 'APIC virtualization of an Intel host').choices(['off', 'on', 'ipiv']))
    .option('--avic', 'AVIC of an AMD host')
    .option('--exit-hypercalls <mask>', 'hypercalls that go to user space: 0x1000 for MAP_GPA_RANGE', wholeNumber)
    .option('--trace', "print KVM's trace lines instead of the notes per exit")
    .addOption(
      new Option(
        '--trace-file <file>',
        'write the trace to a file too, by its ending: .dat (trace-cmd), .data (perf), .pftrace (Perfetto), .txt; repeat it for several',
      ).argParser(append),
    )
    .option('--exits <n>', "how many exits to describe, or 'all'", exitLimit, DEFAULT_EXITS)
    .addOption(json)
    .action((file: string, options) => run(async (out) => (await import('./run.ts')).runCommand(file, options, out)));

  program
    .command('test')
    .description('check the expectations of guest programs, in every KVM version and on every vendor they name')
    .argument('[paths...]', 'programs and folders', ['guest'])
    .option('--kvm <era>', 'only this KVM version')
    .addOption(vendor())
    .addOption(engine())
    .addOption(seed())
    .addOption(json)
    .action((paths: string[], options) =>
      run(async (out) => (await import('./test.ts')).testCommand(paths, options, out)),
    );

  program
    .command('boot')
    .description('boot a Multiboot image on a PC, print its serial output, and exit with the status it reports')
    .argument('<image>', 'Multiboot 1 image, e.g. *.flat of kvm-unit-tests')
    .option('--smp <n>', 'number of virtual CPUs', wholeNumber)
    .option('--append <args>', "the image's arguments")
    .option('--initrd <file>', 'a module for the image: for kvm-unit-tests its environment, NAME=value lines')
    .option('--mem <size>', 'guest RAM, default 128M')
    .option(
      '--cpu <features>',
      'what CPUID shows, as for QEMU: +x2apic,-tsc-deadline; a model name in front is ignored',
    )
    .option('--kvm <era>', 'KVM version')
    .addOption(vendor())
    .addOption(seed())
    .option('--timeout <seconds>', 'give up after this time, with exit code 124; default never', Number)
    .option('--no-pit', 'a machine without PIT')
    .option('--trace', "KVM's trace lines, and accesses that nobody answers, on stderr")
    .addOption(json)
    .action((image: string, options) =>
      run(async (out) => (await import('./boot.ts')).bootCommand(image, options, out)),
    );

  program
    .command('kut')
    .description('run the configurations of built kvm-unit-tests trees')
    .argument('<dir...>', 'trees, each configured for x86_64 or i386')
    .option('--group <name>', 'only this group')
    .addOption(new Option('--test <name>', 'only this configuration; several: separated by commas').argParser(collect))
    .option('--all', 'also configurations marked as manual run only')
    .option('--kvm <era>', 'KVM version')
    .addOption(vendor())
    .option('--jobs <n>', 'how many at a time; default the number of CPUs', wholeNumber)
    .option('--timeout <seconds>', "instead of each configuration's own", Number)
    .option('--tap', 'print TAP (Test Anything Protocol)')
    .option('--results <file>', 'write a page of the results (Markdown)')
    .addOption(json)
    .action((dirs: string[], options) => run(async (out) => (await import('./kut.ts')).kutCommand(dirs, options, out)));

  program
    .command('replay')
    .description('replay recordings of a real KVM and print every case that comes out otherwise')
    .argument('<file...>', 'recordings (JSON lines) and folders with .jsonl files')
    .option('--kvm <era>', "KVM version; default the recorded kernel's")
    .addOption(json)
    .action((paths: string[], options) =>
      run(async (out) => (await import('./replay.ts')).replayCommand(paths, options, out)),
    );

  const fuzz = program
    .command('fuzz')
    .description('look for cases in which two versions of KVM differ, or rules are broken');
  for (const [kind, description] of FUZZ_KINDS) {
    addCampaignOptions(
      fuzz
        .command(kind)
        .description(description)
        .option('--kvm <era>', "KVM version; default the newest, with --against /dev/kvm that of this machine's kernel")
        .option(
          '--against <side>',
          "what to compare with: another KVM version, 'golden' (recordings of a real KVM), or /dev/kvm; default: host bugs and rules of every version",
        )
        .option('--golden <dir>', 'folder of recordings for --against golden; default test/golden')
        .addOption(vendor())
        .option('--seed <n>', 'seed of the campaign; default 1', wholeNumber)
        .option('--direct', "call KVM's handlers without executing guest instructions")
        .option('--vcpus <n>', 'number of virtual CPUs; with any option of the VM only that VM is used', wholeNumber)
        .option('--ids <list>', 'APIC id of each vCPU, e.g. 0,5,64-70')
        .addOption(new Option('--apic <mode>', 'local APICs').choices(['x2apic', 'xapic', 'mixed', 'none']))
        .option('--software-disabled <list>', 'vCPUs whose APIC is off by SVR')
        .option('--hardware-disabled <list>', 'vCPUs whose APIC is off by IA32_APIC_BASE')
        .addOption(
          new Option('--mode <mode>', 'code that executes the cases').choices([
            'real16',
            'prot32',
            'compat32',
            'long64',
          ]),
        )
        .addOption(new Option('--cpl <n>', 'its privilege level').choices(['0', '3']))
        .addOption(new Option('--aps <state>', 'the other vCPUs').choices(['halted', 'wait-for-sipi', 'init-received']))
        .option('--apic-api <flags>', 'KVM_CAP_X2APIC_API: 1 32-bit ids, 2 no broadcast quirk', wholeNumber)
        .addOption(json),
    ).action((options) => run(async (out) => (await import('./fuzz.ts')).fuzzCommand(kind, options, out)));
  }
  addRace(fuzz, run);
  addFuzzTools(fuzz, run);

  program
    .command('bench')
    .description('run the IPI micro-benchmark: exact counts, modelled time, and the published tables beside it')
    .argument('<name>', 'ipi')
    .option('--vcpus <n>', 'number of virtual CPUs, 2 to 255; default 80', wholeNumber)
    .option('--rounds <n>', 'rounds played of each row; default 3', wholeNumber)
    .addOption(
      new Option(
        '--mode <name>',
        'only dry-run, self, normal, broadcast, broadcast-lock or bare; repeat it or list several',
      ).argParser(collect),
    )
    .addOption(
      new Option(
        '--rows <pattern>',
        "only these rows, e.g. 'physical * broadcast'; repeat it or list several",
      ).argParser(collect),
    )
    .option('--kvm <era>', 'KVM version; default that of the published tables')
    .addOption(vendor())
    .addOption(new Option('--apicv <mode>', 'APIC virtualization of an Intel host').choices(['off', 'on', 'ipiv']))
    .option('--avic', 'AVIC of an AMD host')
    .addOption(seed())
    .addOption(
      new Option(
        '--what-if <change>',
        'compare with apicv=on, ipiv=on, avic=on, shorthand, sparse-ids=K, vcpus=N, pv-eoi=off, idle=halt, kvm=ERA or a cost (exit.vmcall=900)',
      ).argParser(collect),
    )
    .addOption(new Option('--costs', 'list the costs and where they come from').conflicts(['csv', 'whatIf']))
    .addOption(
      new Option('--speed', 'measure how many rounds a second are simulated').conflicts(['csv', 'json', 'whatIf']),
    )
    .addOption(new Option('--csv', 'print the table as CSV').conflicts('json'))
    .option('--chart <file>', 'write a chart too, by its ending: .svg or .png')
    .addOption(json)
    .action((name: string, options) =>
      run(async (out) => (await import('./bench.ts')).benchCommand(name, options, out)),
    );

  program
    .command('asm')
    .description('assemble a program and list addresses, bytes and source lines')
    .argument('<file>', 'assembler source (.S), ELF or flat binary')
    .addOption(json)
    .action((file: string, options) => run(async (out) => (await import('./asm.ts')).asmCommand(file, options, out)));

  program
    .command('eras')
    .description('list the KVM versions and what changed between them')
    .argument('[era]', 'show every switch of one version')
    .addOption(json)
    .action((era: string | undefined, options) =>
      run(async (out) => (await import('./eras.ts')).erasCommand(era, options, out)),
    );

  program
    .command('cpu')
    .description('show the features of the virtual processor')
    .addOption(vendor())
    .option('--list', 'list every instruction form by feature, and what is missing')
    .addOption(json)
    .action((options) => run(async (out) => (await import('./cpu.ts')).cpuCommand(options, out)));

  program
    .command('demo')
    .description('a guided tour: a multicast by one vmcall and a unicast by one wrmsr, on four vCPUs')
    .action(() => run(async (out) => (await import('./demo.ts')).demoCommand(out)));

  return program;
}

/** Kinds of campaigns whose cases are steps of guest code. */
const FUZZ_KINDS = [
  ['icr', 'fuzz writes to the interrupt command register'],
  ['hypercall', 'fuzz hypercalls'],
  ['msr', 'fuzz reads and writes of MSRs'],
  ['sequence', 'fuzz several of these in a row, with interrupts, EOIs, sleep and changing APICs in between'],
] as const;

/** Exits described by `run` unless --exits says otherwise. */
const DEFAULT_EXITS = 40;
const VERSION = '0.1.0';

/** Runs one command line (without node and script) and returns the exit code. Never throws. */
export async function main(args: readonly string[], output: Output = processOutput()): Promise<number> {
  let action: Action | undefined;
  let command: Command | undefined;
  try {
    const program = buildProgram(output, (chosen) => {
      action = chosen;
    });
    program.hook('preAction', (_, chosen) => {
      command = chosen;
    });
    program.parse([...args], { from: 'user' });
    return action ? await action(output) : EXIT_OK;
  } catch (error) {
    // Commander has already printed its message; help and version are no mistakes, a missing command is.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    return reportError(error, output, command);
  }
}
