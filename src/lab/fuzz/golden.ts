/**
 * A campaign against recordings of a real KVM: its cases are those that were recorded, in an order that the seed decides; block n replays the
 * n-th part of them, and starts over at the end. What comes out otherwise than recorded is a find.
 */
import { KvmscopeError } from '../../errors.ts';
import { defaultPvFeatures, PV_SEND_IPI } from '../../kvm/cpuid.ts';
import { resolveEra } from '../../kvm/eras.ts';
import { Random } from '../../machine/scheduler.ts';
import type { RecordedCase, RecordedVm, Recording } from '../recording.ts';
import { readRecording } from '../recording.ts';
import { findRecordings, type ReplayMismatch, replayRecording } from '../replay.ts';
import type { CampaignRunner, RunBlockOptions } from './block.ts';
import { commentOf, programOf } from './program.ts';
import { sizeOf } from './shrink.ts';
import { type BlockResult, type Campaign, Case, type Find, OP, STEP_OP, STEP_VCPU, type Topology } from './types.ts';

export interface GoldenOptions {
  /** Replays a recording on the model; default: that of these modules. */
  readonly replay?: typeof replayRecording;
}

const MSR_ICR = 0x830;
const APIC_EXTD = 0x400n;
const APIC_EN = 0x800n;
const SVR_ENABLED = 0x100;

/** One recorded case: number of the recording, number of the case in it. */
type Place = readonly [recording: number, index: number];

/** Reads the recordings of a campaign. Throws KvmscopeError for folders without any of its kind. */
export function openGolden(campaign: Campaign, { replay = replayRecording }: GoldenOptions = {}): CampaignRunner {
  const folder = campaign.golden ?? 'test/golden';
  const recordings = findRecordings([folder]).map(readRecording);
  const places = recordings.flatMap(({ cases }, recording) =>
    cases.flatMap(({ kind }, index): Place[] => (kind === campaign.kind ? [[recording, index]] : [])),
  );
  if (places.length === 0) throw new KvmscopeError('usage', `${folder} has no recorded cases of kind ${campaign.kind}`);
  shuffle(places, campaign.seed);
  return new GoldenRunner(campaign, recordings, places, replay);
}

class GoldenRunner implements CampaignRunner {
  readonly campaign: Campaign;
  readonly #recordings: readonly Recording[];
  readonly #places: readonly Place[];
  readonly #replay: typeof replayRecording;

  constructor(
    campaign: Campaign,
    recordings: readonly Recording[],
    places: readonly Place[],
    replay: typeof replayRecording,
  ) {
    this.campaign = campaign;
    this.#recordings = recordings;
    this.#places = places;
    this.#replay = replay;
  }

  dispose(): void {}

  async runBlock(block: number, { signal, onProgress }: RunBlockOptions = {}): Promise<BlockResult | undefined> {
    const { blockSize, kvm } = this.campaign;
    /** Numbers of the cases by recording. */
    const chosen = new Map<number, { readonly number: number; readonly index: number }[]>();
    for (let i = 0; i < blockSize; i++) {
      const number = block * blockSize + i;
      const [recording, index] = this.#places[number % this.#places.length] as Place;
      const list = chosen.get(recording) ?? [];
      list.push({ number, index });
      chosen.set(recording, list);
    }
    const finds = new Map<string, { readonly size: number; readonly find: Find }>();
    let done = 0;
    for (const [at, list] of chosen) {
      if (signal?.aborted) return undefined;
      const recording = this.#recordings[at] as Recording;
      const cases = list.map(({ index }) => recording.cases[index] as RecordedCase);
      const { mismatches } = await this.#replay({ ...recording, cases }, { kvm });
      for (const mismatch of mismatches) {
        const signature = signatureOf(this.campaign.kind, mismatch);
        const which = cases.findIndex(({ line }) => line === mismatch.line);
        const test = which < 0 ? undefined : caseOf(cases[which] as RecordedCase);
        const size = test === undefined ? Number.MAX_SAFE_INTEGER : sizeOf(test);
        const known = finds.get(signature);
        if (known !== undefined && known.size <= size) continue;
        const number = which < 0 ? block * blockSize : (list[which] as { number: number }).number;
        finds.set(signature, {
          size,
          find: tell(recording, cases[which], mismatch, { block, number, kvm, signature }),
        });
      }
      done += list.length;
      onProgress?.(done);
    }
    return { block, cases: blockSize, coverage: [], corpus: [], finds: [...finds.values()].map(({ find }) => find) };
  }
}

/** Fields that differ, without numbers of vCPUs. */
function signatureOf(kind: string, { differences }: ReplayMismatch): string {
  const fields = differences.map(({ field }) => field.replace(/^(ch|st|apics)\.\d+\./, '$1 '));
  return `recorded ${kind}: ${[...new Set(fields)].sort().join('; ')}`;
}

interface Where {
  readonly block: number;
  readonly number: number;
  readonly kvm: string;
  readonly signature: string;
}

function tell(recording: Recording, recorded: RecordedCase | undefined, mismatch: ReplayMismatch, where: Where): Find {
  const { file, line, text, differences } = mismatch;
  const { block, number, kvm, signature } = where;
  const plain = differences.map(({ field, expected, actual }) => ({
    field,
    recorded: show(expected),
    model: show(actual),
  }));
  const told = plain
    .map((one) => `${one.field} was recorded as ${one.recorded} and is ${one.model} in the model`)
    .join('; ');
  const words = `KVM ${kvm} comes out otherwise than the real KVM of ${file}, line ${line}: ${told}.`;
  return {
    signature,
    block,
    case: number,
    input: { file, line, case: JSON.parse(text || 'null') },
    outcomes: { names: ['recorded', `KVM ${kvm}`], differences: plain },
    program: programText(recording.vm, recorded, differences, words, kvm),
    words,
  };
}

/** Values of a recording as text: vectors and numbers as JSON, 64-bit numbers in hexadecimal. */
function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  return typeof value === 'bigint' ? `0x${value.toString(16)}` : JSON.stringify(value);
}

/** The case as a program whose expectations are what was recorded; comments only if it cannot be one. */
function programText(
  vm: RecordedVm,
  recorded: RecordedCase | undefined,
  differences: ReplayMismatch['differences'],
  words: string,
  kvm: string,
): string {
  const test = recorded === undefined ? undefined : caseOf(recorded);
  if (test === undefined) return `${commentOf(words)}\n# It is no program: kvmscope replay shows it.\n    hlt\n`;
  const bits = (recorded as RecordedCase).bits;
  const { code, settings } = programOf(test, topologyOf(vm, bits, (recorded as RecordedCase).cpl, kvm), 'exit');
  const expectations = differences.flatMap(({ field, expected }) => expectationOf(vm, field, expected));
  const header = [
    commentOf(words),
    '#',
    `# kvm: ${kvm}   ${settings}`,
    ...expectations.map((text) => `# expect: ${text}`),
  ];
  return `${header.join('\n')}\n${code}`;
}

/** A single stimulus as a case; undefined: it is more than that. */
function caseOf(recorded: RecordedCase): Case | undefined {
  const test = new Case();
  test.length = 1;
  test.words[STEP_VCPU] = 'from' in recorded ? recorded.from : 0;
  if (recorded.kind === 'icr') {
    test.words[STEP_OP] = recorded.via === 'guest-mmio' ? OP.icrStores : OP.wrmsr;
    test.setArg(0, 0, BigInt(MSR_ICR));
    test.setArg(0, 1, recorded.icr);
    return test;
  }
  if (recorded.kind !== 'hypercall') return undefined;
  test.words[STEP_OP] = OP.call;
  for (const [which, value] of recorded.registers.entries()) test.setArg(0, which, value);
  return test;
}

function topologyOf(vm: RecordedVm, bits: 32 | 64, cpl: 0 | 3, kvm: string): Topology {
  const indices = (off: (apic: RecordedVm['apics'][number]) => boolean): number[] =>
    vm.apics.flatMap((apic, index) => (off(apic) ? [index] : []));
  const x2apic = vm.apics.some(({ base }) => (base & APIC_EXTD) !== 0n);
  return {
    vendor: vm.vendor,
    vcpus: vm.ids.length,
    ids: vm.ids,
    apic: x2apic ? 'x2apic' : 'xapic',
    softwareDisabled: indices(({ svr, base }) => (base & APIC_EN) !== 0n && (svr & SVR_ENABLED) === 0),
    hardwareDisabled: indices(({ base }) => (base & APIC_EN) === 0n),
    mode: bits === 64 ? 'long64' : 'prot32',
    cpl,
    aps: 'halted',
    x2apicApi: vm.x2apicApi,
    vectorHashing: vm.vectorHashing,
    enforcePvFeatures: vm.enforcePvFeatures,
    ...(vm.sendIpiFeature ? {} : { pvFeatures: (defaultPvFeatures(resolveEra(kvm)) & ~(1 << PV_SEND_IPI)) >>> 0 }),
  };
}

/** What was recorded of a field as the header says it. */
function expectationOf(vm: RecordedVm, field: string, expected: unknown): string[] {
  if (field === 'rax' && typeof expected === 'bigint') return [`rax = 0x${expected.toString(16)}`];
  if (field === 'gp') return [`end = ${expected === 1 ? 'shutdown' : 'halted'}`];
  const [, id, what] = /^ch\.(\d+)\.(irr|nmi|smi|init)$/.exec(field) ?? [];
  if (id === undefined) return [];
  const index = vm.ids.indexOf(Number(id));
  if (what !== 'irr') return [`vcpu[${index}].${what} = ${expected ?? 0}`];
  return [`vcpu[${index}].irr = {${(Array.isArray(expected) ? expected : []).join(', ')}}`];
}

/** A permutation that follows from the seed. */
function shuffle(places: Place[], seed: number): void {
  const random = new Random(seed);
  for (let i = places.length - 1; i > 0; i--) {
    const j = random.next() % (i + 1);
    [places[i], places[j]] = [places[j] as Place, places[i] as Place];
  }
}
