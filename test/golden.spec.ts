/** Recordings of a real KVM (Linux 6.18.15, kvm_amd): the model agrees with every line of every file. */
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { createVm, findRecordings, type ReplayedFile, readRecording, replayRecording } from '../src/index.ts';

const ROOT = fileURLToPath(new URL('golden', import.meta.url));
const files = findRecordings([ROOT]);
const name = (path: string): string => path.slice(ROOT.length + 1);

describe('recordings of KVM 6.18', () => {
  const replayed = new Map<string, ReplayedFile>();

  beforeAll(async () => {
    for (const path of files) replayed.set(path, await replayRecording(readRecording(path), { kvm: '6.18' }));
  });

  it('are all there', () => {
    expect(files).toHaveLength(43);
    const cases = (folder: string): number =>
      files
        .filter((path) => name(path).startsWith(folder))
        .reduce((sum, path) => sum + (replayed.get(path) as ReplayedFile).cases, 0);
    expect([cases('icr/'), cases('hc/'), cases('icr-seq'), cases('x2apic-msrs')]).toEqual([10246, 3194, 400, 43]);
  });

  it.each(files.map((path) => [name(path), path] as const))('%s agrees', (_, path) => {
    const [first] = (replayed.get(path) as ReplayedFile).mismatches;
    expect(first).toBeUndefined();
  });
});

describe('the survey of x2APIC MSRs', () => {
  it('lists all that exist: any other from 0x800 to 0x8ff can neither be read nor written', async () => {
    const recorded = new Set<number>();
    for (const recordedCase of readRecording(`${ROOT}/x2apic-msrs.jsonl`).cases) {
      if (recordedCase.kind === 'msr') recorded.add(recordedCase.msr);
    }
    const { kvm } = await createVm({ vcpus: 2, kvm: '6.18', vendor: 'amd' });
    const found: number[] = [];
    for (let msr = 0x800; msr <= 0x8ff; msr++) {
      if (recorded.has(msr)) continue;
      if (kvm.getMsr(1, msr) !== undefined || kvm.setMsr(1, msr, 0n) || kvm.setMsr(1, msr, 1n)) found.push(msr);
    }
    expect(found).toEqual([]);
  });
});
