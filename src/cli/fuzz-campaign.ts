/** What every `kvmscope fuzz KIND` does with its campaign: runs it here or through a queue, shows how it goes, prints what was found. */
import {
  type Campaign,
  type CampaignContents,
  type CampaignProgress,
  type CampaignReport,
  DECISIONS,
  type Find,
  KvmscopeError,
  numberedFinds,
  parseShard,
  type QueueCampaignReport,
  queueCampaign,
  runCampaign,
} from '../index.ts';
import { document } from '../trace/json.ts';
import { DEFAULT_TIME } from './fuzz-options.ts';
import { withInterrupts } from './interrupts.ts';
import { EXIT_FAILED, EXIT_OK } from './main.ts';
import { type Output, writeLines } from './output.ts';

export interface CampaignFlags {
  readonly runs?: number;
  readonly time?: number;
  readonly dir?: string;
  readonly jobs?: number;
  readonly shard?: string;
  readonly queue?: string;
  readonly lock?: number;
  readonly json?: boolean;
}

export const NO_TIME = '--time must be more than 0';
const sameVersion = (kvm: string): string => `--against: KVM ${kvm} is the version that is fuzzed; name another one`;

/** Runs a campaign as its flags say and prints what was found; the exit code is 1 if anything was, or if a block failed. */
export async function runFuzz(campaign: Campaign, flags: CampaignFlags, output: Output): Promise<number> {
  const { runs, dir, jobs, queue, lock } = flags;
  const time = flags.time ?? (runs === undefined ? DEFAULT_TIME : undefined);
  const blocks = runs === undefined ? undefined : Math.ceil(runs / campaign.blockSize);
  const wrong = (message: string): never => {
    throw new KvmscopeError('usage', message);
  };
  if (runs === 0) wrong('--runs must be 1 or more');
  if (flags.time === 0) wrong(NO_TIME);
  if (campaign.against === campaign.kvm) wrong(sameVersion(campaign.kvm));
  if (jobs === 0) wrong('--jobs must be 1 or more');
  if (queue !== undefined && jobs !== undefined) wrong('--jobs: with --queue, kvmscope fuzz worker decides');
  if (queue === undefined && lock !== undefined) wrong('--lock needs --queue');
  const watch = new ProgressLine(campaign, blocks, output);
  const given = {
    ...(blocks === undefined ? {} : { blocks }),
    ...(time === undefined ? {} : { time }),
    ...(flags.shard === undefined ? {} : { shard: parseShard(flags.shard) }),
    onProgress: (progress: CampaignProgress) => watch.update(progress),
    onFind: (find: Find) => watch.found(find),
  };
  const report = await withInterrupts(
    (again) => watch.say(`stopping: blocks in progress are finished; ${again} drops them`),
    async (signals): Promise<CampaignReport | QueueCampaignReport> => {
      try {
        if (queue === undefined)
          return await runCampaign(campaign, {
            ...given,
            ...signals,
            ...(dir === undefined ? {} : { dir }),
            ...(jobs === undefined ? {} : { jobs }),
          });
        if (dir === undefined) return wrong('--queue needs --dir');
        const options = lock === undefined ? {} : { lock };
        const onWait = (holder: string): void =>
          watch.say(`${holder} collects this campaign; it is dead if it is silent for the time of --lock`);
        return await queueCampaign(campaign, { ...given, ...signals, ...options, url: queue, dir, onWait });
      } finally {
        watch.end();
      }
    },
  );
  const failed = 'failed' in report ? report.failed : [];
  const ok = report.finds.length === 0 && failed.length === 0;
  if (flags.json) {
    const { casesNow, seconds, end } = report;
    const run = { cases: casesNow, seconds, end };
    output.out(document('fuzz', ok, { ...campaignJson(report), failed, ...(dir === undefined ? {} : { dir }), run }));
  } else writeLines(output, reportLines(report, failed, dir));
  return ok ? EXIT_OK : EXIT_FAILED;
}

/** What is known of a campaign, for readers of JSON. */
export const campaignJson = ({ campaign, tally, cases }: CampaignContents & { readonly cases: number }) => ({
  campaign,
  cases,
  blocks: tally.blocks.size,
  coverage: [...tally.coverage.keys()].sort((a, b) => a - b).map((point) => DECISIONS[point] ?? point),
  finds: numberedFinds(tally),
});

const number = (value: number): string => Math.round(value).toLocaleString('en-US');
const plural = (count: number, what: string): string => `${number(count)} ${what}${count === 1 ? '' : 's'}`;

/** The number of a find as its files have it. */
export const findName = (index: number): string => `find-${String(index + 1).padStart(3, '0')}`;

const ENDS: Readonly<Record<CampaignReport['end'], string>> = { done: '', time: '', stopped: ' (stopped)' };

function* reportLines(
  report: CampaignReport,
  failed: QueueCampaignReport['failed'],
  dir: string | undefined,
): Generator<string> {
  const { cases, casesNow, seconds, tally, finds, end } = report;
  const rate = casesNow > 0 ? `, ${number(casesNow / seconds)} a second` : '';
  const earlier = cases > casesNow ? `, ${number(cases - casesNow)} of them before` : '';
  yield `${plural(cases, 'case')}${earlier}; ${seconds.toFixed(1)} s${rate}${ENDS[end]}`;
  yield `${number(tally.coverage.size)} of ${DECISIONS.length} decision points of the model, ${plural(finds.length, 'find')}`;
  for (const { block, reason } of failed) yield `block ${block} failed: ${reason}`;
  for (const [i, find] of finds.entries()) {
    yield '';
    yield `${findName(i)}  ${find.signature}`;
    yield find.words;
    if (dir === undefined) yield* ['', ...find.program.trimEnd().split('\n')];
  }
  if (dir !== undefined && finds.length > 0) {
    yield '';
    yield `programs: ${dir}/find-NNN.S`;
  }
}

/** How often lines are printed where nobody looks. */
const PLAIN_SECONDS = 10;

/** How a campaign goes, on stderr: one line that is drawn again where someone looks, a line now and then elsewhere. */
export class ProgressLine {
  readonly #output: Output;
  readonly #total: number | undefined;
  readonly #name: string;
  readonly #signatures = new Set<string>();
  #drawn = false;
  #last = 0;
  #text = '';

  constructor(campaign: Campaign, blocks: number | undefined, output: Output) {
    const against = campaign.against === undefined ? '' : ` : ${campaign.against}`;
    this.#name = `${campaign.kind} ${campaign.kvm}${against}`;
    this.#total = blocks;
    this.#output = output;
  }

  update({ blocks, cases, casesNow, seconds, coverage, finds }: CampaignProgress): void {
    const share = this.#total === undefined ? '' : ` (${Math.floor((100 * blocks) / this.#total)} %)`;
    const rate = seconds > 0 ? number(casesNow / seconds) : '0';
    this.#text = `${this.#name}  ${number(seconds)} s  ${number(cases)} cases${share}  ${rate}/s  coverage ${coverage}/${DECISIONS.length}  ${plural(finds, 'find')}`;
    if (this.#output.errIsTerminal) this.#draw();
    else if (seconds >= this.#last + PLAIN_SECONDS) {
      this.#last = seconds;
      this.#output.err(`${this.#text}\n`);
    }
  }

  /** A signature that is new in this run is told at once. */
  found({ signature }: Find): void {
    if (this.#signatures.has(signature)) return;
    this.#signatures.add(signature);
    this.say(`found: ${signature}`);
  }

  say(text: string): void {
    this.#clear();
    this.#output.err(`${text}\n`);
    if (this.#output.errIsTerminal && this.#text !== '') this.#draw();
  }

  end(): void {
    this.#clear();
  }

  #draw(): void {
    this.#output.err(`\r\x1b[K${this.#text.slice(0, this.#output.width - 1)}`);
    this.#drawn = true;
  }

  #clear(): void {
    if (this.#drawn) this.#output.err('\r\x1b[K');
    this.#drawn = false;
  }
}
