/** Runs race campaigns: a case is one generated program and a search through its interleavings. */
import { KvmscopeError } from '../../../errors.ts';
import { reachedDecisions } from '../../../kvm/decisions.ts';
import type { CampaignRunner, RunBlockOptions } from '../block.ts';
import type { BlockResult, Campaign, Find } from '../types.ts';
import { MOST_VCPUS, type RaceCampaignOptions } from './campaign.ts';
import { generateRace, type RaceProgram, raceSource, withoutOp } from './programs.ts';
import { type RaceFind, RaceLab, type RaceReport } from './race.ts';

const DEFAULT_EXECUTIONS = 400;
const DEFAULT_MAX_STEPS = 400;
/** Different failures of one program after which its search ends. */
const FINDS_PER_CASE = 3;

/** Sets up the VMs of a race campaign. */
export async function openRaceCampaign(campaign: Campaign): Promise<CampaignRunner> {
  for (const { apic, vcpus, mode } of campaign.topologies) {
    if ((apic !== 'x2apic' && apic !== 'xapic') || mode !== 'long64' || vcpus < 2 || vcpus > MOST_VCPUS) {
      throw new KvmscopeError(
        'usage',
        `races are generated for 2 to ${MOST_VCPUS} vCPUs in long mode whose APICs are all in x2APIC or all in xAPIC mode`,
      );
    }
  }
  const runner = new RaceRunner(campaign);
  await runner.open();
  return runner;
}

class RaceRunner implements CampaignRunner {
  readonly campaign: Campaign;
  readonly #labs: RaceLab[] = [];
  #signal: RunBlockOptions['signal'];

  constructor(campaign: Campaign) {
    this.campaign = campaign;
  }

  async open(): Promise<void> {
    const { kvm, against, topologies, race = {} } = this.campaign;
    const { executions = DEFAULT_EXECUTIONS, maxSteps = DEFAULT_MAX_STEPS, ...rest } = race as RaceCampaignOptions;
    try {
      for (const topology of topologies) {
        const { source } = raceSource(generateRace(0, topology.vcpus), topology);
        const lab = await RaceLab.open('race.S', {
          ...rest,
          ...{ source, kvm, runs: executions, maxSteps, finds: FINDS_PER_CASE },
          stop: () => this.#signal?.aborted === true,
          ...(against === undefined ? {} : { against }),
        });
        this.#labs.push(lab);
      }
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  dispose(): void {
    for (const lab of this.#labs) lab.dispose();
  }

  async runBlock(block: number, { signal, onProgress }: RunBlockOptions = {}): Promise<BlockResult | undefined> {
    const { blockSize, topologies } = this.campaign;
    const place = block % topologies.length;
    const finds = new Map<string, Find>();
    this.#signal = signal;
    reachedDecisions.fill(0);
    for (let n = 0; n < blockSize; n++) {
      const number = block * blockSize + n;
      for (const find of await this.#case(place, number, finds))
        finds.set(find.signature, { block, case: number, ...find });
      if (signal?.aborted) return undefined;
      onProgress?.(n + 1);
    }
    return { block, cases: blockSize, coverage: coverage(), corpus: [], finds: [...finds.values()] };
  }

  async #case(
    place: number,
    number: number,
    known: ReadonlyMap<string, Find>,
  ): Promise<Omit<Find, 'block' | 'case'>[]> {
    const { vcpus } = this.campaign.topologies[place];
    const seed = mix(this.campaign.seed, number);
    const program = generateRace(seed, vcpus);
    const { finds } = await this.#explore(place, program, seed);
    const told: Omit<Find, 'block' | 'case'>[] = [];
    for (const { signature } of finds) {
      if (known.has(signature) || this.#signal?.aborted) continue;
      const small = await this.#shrink(place, program, signature);
      const report = await this.#explore(place, small, seed);
      const find = report.finds.find((one) => one.signature === signature);
      if (find !== undefined) told.push(this.#tell(place, small, find));
    }
    return told;
  }

  #load(place: number, program: RaceProgram, comment?: string): void {
    const { source, prefix } = raceSource(program, this.campaign.topologies[place], comment);
    this.#labs[place].load('race.S', source, prefix);
  }

  #explore(place: number, program: RaceProgram, seed: number): Promise<RaceReport> {
    this.#load(place, program);
    return this.#labs[place].explore({ seed });
  }

  /** Takes operations out as long as the failure stays. */
  async #shrink(place: number, program: RaceProgram, signature: string): Promise<RaceProgram> {
    let best = program;
    for (let op = 0; ; ) {
      const candidate = withoutOp(best, op);
      if (candidate === undefined || this.#signal?.aborted) return best;
      this.#load(place, candidate);
      if (await this.#labs[place].shows(signature)) best = candidate;
      else op++;
    }
  }

  #tell(place: number, program: RaceProgram, find: RaceFind): Omit<Find, 'block' | 'case'> {
    const { kind, signature, details, schedule, words } = find;
    return {
      signature,
      input: { topology: this.campaign.topologies[place], program, schedule },
      outcomes: { kind, details },
      program: (find.program as string).replace('# A generated race.', `# A generated race. ${wrap(words)}`),
      words,
    };
  }
}

/** A paragraph as further comment lines. */
function wrap(text: string, width = 120): string {
  let column = '# A generated race. '.length;
  return text
    .split(' ')
    .map((word) => {
      column += word.length + 1;
      if (column <= width) return word;
      column = word.length + 3;
      return `\n# ${word}`;
    })
    .join(' ')
    .replaceAll(' \n', '\n');
}

function coverage(): number[] {
  const points: number[] = [];
  for (const [word, bits] of reachedDecisions.entries()) {
    for (let bit = 0; bit < 32; bit++) if ((bits >>> bit) & 1) points.push(word * 32 + bit);
  }
  return points;
}

/** A seed of 32 bits for a number of the campaign. */
function mix(seed: number, number: number): number {
  let x = (seed ^ Math.imul(number + 1, 0x9e3779b1)) >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return (x ^ (x >>> 15)) >>> 0;
}
