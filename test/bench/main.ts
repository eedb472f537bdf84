/**
 * `npm run bench`: kvmscope beside v86, Unicorn, QEMU and unicorn.js, in one run on one machine. Absolute rates are those of the machine; the
 * ratios are what carries over. `npm run bench -- --help` names the options.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { KvmscopeError } from '../../src/errors.ts';
import { aims } from './aims.ts';
import { parseOptions, USAGE } from './options.ts';
import { run } from './report.ts';
import { markdown, splice, text } from './table.ts';

const README = fileURLToPath(new URL('../../README.md', import.meta.url));

async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  if (options.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const started = performance.now();
  const report = await run(options, (line) => process.stderr.write(`  ${line}\n`));
  for (const { title, missing } of report.engines) {
    if (missing !== undefined) process.stderr.write(`NOT MEASURED: ${title}: ${missing}\n`);
  }
  for (const failure of report.failures) process.stderr.write(`FAILED: ${failure}\n`);
  const failed = report.failures.length > 0;
  if (options.json) {
    process.stdout.write(
      `${JSON.stringify({ kvmscope: 1, command: 'bench', ...report, aims: aims(report) }, null, 2)}\n`,
    );
  } else {
    process.stdout.write(`${text(report)}\n`);
    process.stderr.write(`${((performance.now() - started) / 1000).toFixed(0)} s\n`);
  }
  if (options.readme && !failed) {
    writeFileSync(README, splice(readFileSync(README, 'utf8'), markdown(report)));
  }
  return failed ? 1 : 0;
}

// Processes that were started are ended by what listens to 'exit'.
process.once('SIGINT', () => process.exit(130));
process.once('SIGTERM', () => process.exit(143));
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof KvmscopeError)) throw error;
  process.stderr.write(`bench: ${error.message}\n`);
  process.exitCode = 2;
}
