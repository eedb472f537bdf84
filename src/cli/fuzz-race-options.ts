/** Options of `kvmscope fuzz race`; loads nothing else, so that --help answers at once. */
import { type Command, Option } from 'commander';
import { addCampaignOptions } from './fuzz-options.ts';
import { wholeNumber } from './options.ts';
import type { Output } from './output.ts';

export function addRace(fuzz: Command, run: (action: (output: Output) => Promise<number>) => void): void {
  const command = fuzz
    .command('race')
    .description(
      'try the interleavings of the vCPUs of a program, instruction by instruction, and write schedules that fail; without a program: a campaign of small generated programs',
    )
    .argument('[file]', 'assembler source (.S), ELF or flat binary')
    .option('--kvm <era>', 'KVM version, e.g. 5.6 or 6.18')
    .option('--against <era>', 'another KVM version, which must come to the same places under the same schedules')
    .addOption(new Option('--vendor <name>', 'CPU vendor').choices(['intel', 'amd']))
    .option('--vcpus <n>', 'number of virtual CPUs', wholeNumber)
    .option('--bound <n>', 'most preemptions of a systematic schedule; default any number, fewest first', wholeNumber)
    .option(
      '--executions <n>',
      'executions of one program at most; half of them are random unless all are covered',
      wholeNumber,
    )
    .option('--max-steps <n>', 'steps of one execution at most', wholeNumber)
    .addOption(
      new Option('--reduction <how>', 'what is left out because it cannot show anything new').choices([
        'none',
        'states',
        'full',
      ]),
    )
    .option('--seed <n>', 'seed of random schedules and programs', wholeNumber);
  addCampaignOptions(command)
    .addOption(new Option('--json', 'print one JSON document (versioned, see README)'))
    .action((file: string | undefined, options) =>
      run(async (out) => (await import('./fuzz-race.ts')).raceCommand(file, options, out)),
    );
}
