/**
 * The suite kvm-unit-tests as data: its configurations (`x86/unittests.cfg`), what each asks of a machine, and what an image's serial
 * output says. Running them is the caller's business.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { KvmscopeError } from '../errors.ts';
import { DEFAULT_WALL_CLOCK } from '../kvm/pvclock.ts';
import { readInputText } from '../program/files.ts';

export type KutArch = 'x86_64' | 'i386';

/** One section of unittests.cfg. */
export interface KutConfiguration {
  readonly name: string;
  /** Image file, e.g. `apic.flat`. */
  readonly file: string;
  readonly smp: number;
  /** Arguments of the image; the host's time in them is the VM's, which starts at DEFAULT_WALL_CLOCK. */
  readonly args: string;
  /** Parameters for QEMU. */
  readonly parameters: string;
  readonly groups: readonly string[];
  readonly arch: string;
  /** Seconds; the suite's default is 90. */
  readonly timeout: number;
  /** `path=value` of host files that must hold. */
  readonly check: readonly string[];
}

/** The machine a configuration asks for. */
export interface KutMachine {
  /** Value of `--cpu`: what follows `-cpu`, '' if nothing does. */
  readonly cpu: string;
  readonly vendor: 'intel' | 'amd' | undefined;
  /** Bytes of RAM, undefined for the default. */
  readonly memory: string | undefined;
  readonly pit: boolean;
}

export type KutStatus = 'PASS' | 'FAIL' | 'SKIP';

export interface KutCounts {
  readonly pass: number;
  readonly fail: number;
  readonly skip: number;
  /** Failures that the image expects itself. */
  readonly expectedFail: number;
}

export interface KutResult extends KutCounts {
  readonly name: string;
  readonly status: KutStatus;
  /** Why it was skipped, or what went wrong; '' if nothing did. */
  readonly reason: string;
  /** Lines of sub-results that failed. */
  readonly failures: readonly string[];
  /** `cycles` of each operation that a vmexit image measured. */
  readonly cycles: Readonly<Record<string, number>>;
  readonly seconds: number;
}

/** Seconds that a configuration may take if it does not say. */
const DEFAULT_TIMEOUT = 90;

/** Exit statuses of images: what an image writes to the exit port. */
export const KUT_EXIT = { pass: 0, skip: 38, abort: 63, timeout: 124 } as const;

/** Reads `DIR/x86/unittests.cfg`. Throws KvmscopeError('not-found') if there is none. */
export function readUnittests(dir: string): KutConfiguration[] {
  const path = join(dir, 'x86', 'unittests.cfg');
  let text: string;
  try {
    text = readInputText(path);
  } catch (error) {
    if (error instanceof KvmscopeError) throw error;
    throw new KvmscopeError('not-found', `${path} cannot be read: give the folder of a built kvm-unit-tests tree`);
  }
  return parseUnittests(text);
}

/** The architecture that a tree was configured for (`config.mak`), undefined if it does not say. */
export function treeArch(dir: string): KutArch | undefined {
  const path = join(dir, 'config.mak');
  if (!existsSync(path)) return undefined;
  const arch = /^ARCH=(.*)$/m.exec(readInputText(path))?.[1]?.trim();
  return arch === 'x86_64' || arch === 'i386' ? arch : undefined;
}

const unquote = (value: string): string => value.trim().replace(/^(["'])(.*)\1$/, '$2');

export function parseUnittests(text: string): KutConfiguration[] {
  const sections: { name: string; values: Map<string, string> }[] = [];
  for (const line of text.split('\n')) {
    const section = /^\[(.*)\]$/.exec(line)?.[1];
    if (section !== undefined) {
      sections.push({ name: section, values: new Map() });
      continue;
    }
    const [, key, value] = /^(\w+)\s*=\s*(.*)$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) sections.at(-1)?.values.set(key, value);
  }
  return sections.map(({ name, values }) => {
    const get = (key: string): string => values.get(key) ?? '';
    const words = (key: string): string[] => unquote(get(key)).split(/\s+/).filter(Boolean);
    return {
      name,
      file: get('file'),
      smp: Number.parseInt(get('smp') || '1', 10),
      args: unquote(get('test_args')).replaceAll('`date +%s`', String(DEFAULT_WALL_CLOCK)),
      parameters: unquote(get('qemu_params') || get('extra_params')),
      groups: words('groups'),
      arch: get('arch'),
      timeout: Number.parseInt(get('timeout'), 10) || DEFAULT_TIMEOUT,
      check: words('check'),
    };
  });
}

/** Host files of `check` lines as a host of ours has them: the defaults of the kernel. */
const HOST_FILES: ReadonlyMap<string, string> = new Map([
  ['/sys/module/kvm/parameters/enable_pmu', 'N'],
  ['/sys/module/kvm/parameters/enable_vmware_backdoor', 'N'],
  ['/sys/module/kvm/parameters/ignore_msrs', 'N'],
  ['/sys/module/kvm_intel/parameters/allow_smaller_maxphyaddr', 'N'],
  ['/sys/devices/system/clocksource/clocksource0/current_clocksource', 'tsc'],
  ['/proc/sys/kernel/nmi_watchdog', '0'],
]);

/** Devices and machine types of QEMU parameters that the board does not have, and why that matters. */
const MISSING: readonly (readonly [RegExp, string])[] = [
  [/intel-iommu/, 'no IOMMU'],
  [/\+(svm|vmx)\b/, 'no nested virtualization'],
  [/hyperv-testdev|hv_passthrough|hv[-_]/, 'no Hyper-V interface'],
];

/** Why a configuration is not run on this tree; undefined if it is. Without `nodefault`, its group of that name is left out. */
export function skipReason(configuration: KutConfiguration, arch: KutArch, nodefault: boolean): string | undefined {
  if (configuration.arch !== '' && configuration.arch !== arch) return `${configuration.arch} only`;
  if (!nodefault && configuration.groups.includes('nodefault')) return 'marked as manual run only';
  for (const check of configuration.check) {
    const at = check.indexOf('=');
    const [path, value] = [check.slice(0, at), check.slice(at + 1)];
    if (HOST_FILES.get(path) !== value) return `${path} is not ${value}`;
  }
  return MISSING.find(([pattern]) => pattern.test(configuration.parameters))?.[1];
}

/** What a configuration's parameters for QEMU mean here. Parameters that change nothing a guest sees are passed over. */
export function machineOf(parameters: string): KutMachine {
  const words = parameters.split(/\s+/).filter(Boolean);
  const after = (option: string): string | undefined => {
    const at = words.indexOf(option);
    return at < 0 ? undefined : words[at + 1];
  };
  const cpu = after('-cpu') ?? '';
  const vendor = cpu.includes('vendor=AuthenticAMD')
    ? 'amd'
    : cpu.includes('vendor=GenuineIntel')
      ? 'intel'
      : undefined;
  const memory = after('-m');
  return {
    cpu,
    vendor,
    memory: memory === undefined ? undefined : /^\d+$/.test(memory) ? `${memory}M` : memory.toUpperCase(),
    pit: !/pit=off/.test(parameters),
  };
}

/** Counts the sub-results of an image's output. */
export function readOutput(output: string): KutCounts & Pick<KutResult, 'failures' | 'cycles'> {
  const lines = output.split(/\r?\n/);
  const count = (start: string): number => lines.filter((line) => line.startsWith(start)).length;
  const cycles: Record<string, number> = {};
  for (const line of lines) {
    const [, name, value] = /^([a-z][\w:-]*) (\d+)$/.exec(line) ?? [];
    if (name !== undefined) cycles[name] = Number(value);
  }
  return {
    pass: count('PASS: '),
    fail: count('FAIL: '),
    skip: count('SKIP: '),
    expectedFail: count('XFAIL: '),
    failures: lines.filter((line) => line.startsWith('FAIL: ')).map((line) => line.slice(6)),
    cycles,
  };
}

/** The verdict of a run: exit status of the machine (KUT_EXIT) and its output. */
export function judgeOutput(name: string, status: number, output: string, message: string, seconds: number): KutResult {
  const found = readOutput(output);
  const verdict: KutStatus = status === KUT_EXIT.pass ? 'PASS' : status === KUT_EXIT.skip ? 'SKIP' : 'FAIL';
  const reason = verdict === 'PASS' ? '' : message || whyNot(status, found);
  return { name, status: verdict, reason, seconds, ...found };
}

/** Why an image that said nothing else did not pass. */
function whyNot(status: number, { pass, fail }: KutCounts): string {
  if (status === KUT_EXIT.skip) return 'the image skips itself';
  if (fail > 0) return `${fail} of ${pass + fail} sub-results fail`;
  return status === KUT_EXIT.abort ? 'the image aborts' : `the image ends with status ${status}`;
}
