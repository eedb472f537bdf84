/** What the rest of the project may use of KVM. */
export type { AsyncPageFault } from './async-pf.ts';
export {
  ERAS,
  type Era,
  eraMatches,
  NEWEST_ERA,
  resolveEra,
  SWITCHES,
  type SwitchInfo,
  type SwitchName,
} from './eras.ts';
export type { Lapic } from './lapic.ts';
export type * from './trace.ts';
export type * from './types.ts';
export type { KvmVcpu } from './vcpu.ts';
export { Kvm } from './x86.ts';
