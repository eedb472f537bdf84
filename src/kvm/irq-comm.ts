/**
 * Routing of interrupt messages between local APICs (kvm_irq_delivery_to_apic; arch/x86/kvm/irq_comm.c until v6.16,
 * then irq.c): through the APIC map where it can answer, else by asking every APIC; with lowest-priority arbitration.
 */

import * as maps from './apic-map.ts';
import { ApicMap, bitCount, fastDelivery, matches, nthBit } from './apic-map.ts';
import { decision, reach } from './decisions.ts';
import type { Era } from './eras.ts';
import * as icrLayout from './icr.ts';
import type { Lapic } from './lapic.ts';

// Of its own constants V8 folds the values; imported ones it would load, and check, at every use.
const {
  ICR_LOGICAL,
  ICR_MODE,
  ICR_MODE_SHIFT,
  ICR_SHORTHAND,
  ICR_SHORTHAND_SHIFT,
  ICR_VECTOR,
  MODE_LOWEST,
  SHORTHAND_ALL_BUT_SELF,
  SHORTHAND_NONE,
  SHORTHAND_SELF,
  XAPIC_BROADCAST,
} = icrLayout;
const { FAST } = maps;

// Decision points, for fuzzing.
const AT_ROUTE_SELF = decision('route-self');
const AT_ROUTE_PHYSICAL_NOBODY = decision('route-physical-nobody');
const AT_ROUTE_PHYSICAL = decision('route-physical');
const AT_ROUTE_LOGICAL = decision('route-logical');
const AT_ROUTE_LOWEST = decision('route-lowest');
const AT_ROUTE_LOWEST_NOBODY = decision('route-lowest-nobody');
const AT_SLOW_SHORTHAND = decision('slow-shorthand');
const AT_SLOW_NO_MAP = decision('slow-no-map');
const AT_SLOW_MIXED = decision('slow-mixed');
const AT_SLOW_BROADCAST = decision('slow-broadcast');
const AT_LOWEST_BROADCAST = decision('lowest-broadcast');
const AT_SLOW_LOWEST = decision('slow-lowest');
const AT_SLOW_LOWEST_NOBODY = decision('slow-lowest-nobody');

/** Gives a routed message (an ICR low word) to its target: trace, accept, kick. Returns 1 if it was accepted. */
export interface MessageSink {
  deliver(target: Lapic, message: number): number;
}

export interface RouterSetup {
  /** In vCPU order; empty for a VM without in-kernel APICs, which never has a map. */
  readonly lapics: readonly Lapic[];
  readonly era: Era;
  /** KVM_CAP_X2APIC_API flags. */
  readonly x2apicApi: number;
  /** `vector_hashing` module parameter. */
  readonly vectorHashing: boolean;
  readonly sink: MessageSink;
}

/** What a snapshot holds of a router. */
export interface RouterState {
  readonly map: ApicMap | null;
  readonly mapDirty: boolean;
}

/** Lowest priority to physical 0xFF: every APIC gets it, as Fixed. */
const isLowestBroadcast = (icrLow: number, dest: number): boolean =>
  dest === XAPIC_BROADCAST && (icrLow & (ICR_MODE | ICR_LOGICAL)) === MODE_LOWEST << ICR_MODE_SHIFT;

export class Router {
  private readonly lapics: readonly Lapic[];
  private readonly era: Era;
  private readonly x2apicApi: number;
  private readonly vectorHashing: boolean;
  private readonly sink: MessageSink;
  private map: ApicMap | null = null;
  private mapDirty = true;

  constructor(setup: RouterSetup) {
    this.lapics = setup.lapics;
    this.era = setup.era;
    this.x2apicApi = setup.x2apicApi;
    this.vectorHashing = setup.vectorHashing;
    this.sink = setup.sink;
  }

  /** A map never changes once it is built. */
  save(): RouterState {
    return { map: this.map, mapDirty: this.mapDirty };
  }

  restore(state: RouterState): void {
    this.map = state.map;
    this.mapDirty = state.mapDirty;
  }

  /** The APIC map must be rebuilt before it is used again. */
  invalidateMap(): void {
    this.mapDirty = true;
  }

  /** The current APIC map, rebuilt if something it depends on has changed; null if this VM has none. */
  apicMap(): ApicMap | null {
    if (this.mapDirty === true) this.rebuildMap();
    return this.map;
  }
  private rebuildMap(): void {
    this.mapDirty = false;
    if (this.lapics.length > 0) this.map = ApicMap.build(this.lapics, this.era, this.x2apicApi);
  }

  /** FAST or NOT_FAST_* for a message of `source`. `dest` is 32 bits, signed or unsigned, here and in `route`. */
  delivery(source: Lapic | null, icrLow: number, dest: number): number {
    return fastDelivery(this.apicMap(), this.x2apicApi, source?.x2apic === true, icrLow, dest);
  }

  /** Sends the message of an ICR low word to `dest`. `source` null: not from an APIC. */
  route(source: Lapic | null, icrLow: number, dest: number): void {
    this.routeAs(this.delivery(source, icrLow, dest), source, icrLow, dest);
  }

  /** `route` of a message for which `delivery` has just given the answer; -1: it has not been asked. */
  routeAs(answer: number, source: Lapic | null, icrLow: number, dest: number): void {
    const delivery = answer < 0 ? this.delivery(source, icrLow, dest) : answer;
    // Which message is fast does not depend on the mode.
    const fixed = this.era.lowestBroadcastFixedFirst && isLowestBroadcast(icrLow, dest);
    const low = fixed ? icrLow & ~ICR_MODE : icrLow;
    if (delivery === FAST) this.routeFast(this.map, source, low, dest);
    else this.routeSlow(source, low, dest | 0);
  }

  private routeFast(map: ApicMap | null, source: Lapic | null, low: number, dest: number): void {
    if ((low & (ICR_SHORTHAND | ICR_LOGICAL)) !== 0) {
      this.routeFastToMany(map, source, low, dest);
      return;
    }
    const target = map !== null && dest >>> 0 <= map.maxApicId ? map.phys[dest] : null;
    if (target === null) {
      reach(AT_ROUTE_PHYSICAL_NOBODY);
      return;
    }
    reach(AT_ROUTE_PHYSICAL);
    this.sink.deliver(target, low);
  }

  private routeFastToMany(map: ApicMap | null, source: Lapic | null, low: number, dest: number): void {
    if ((low & ICR_SHORTHAND) !== 0) {
      // Only self gets here.
      reach(AT_ROUTE_SELF);
      if (source !== null) this.sink.deliver(source, low);
      return;
    }
    if (map === null) return;
    reach(AT_ROUTE_LOGICAL);
    const lowest = (low & ICR_MODE) === MODE_LOWEST << ICR_MODE_SHIFT;
    let mask = map.logicalMask(dest);
    if (lowest && mask !== 0) mask = this.electCandidate(map, dest, mask, low & ICR_VECTOR);
    for (let left = mask; left !== 0; left &= left - 1) {
      const target = map.logicalCandidate(dest, 31 - Math.clz32(left & -left));
      if (lowest) reach(target === null ? AT_ROUTE_LOWEST_NOBODY : AT_ROUTE_LOWEST);
      if (target !== null) this.sink.deliver(target, low);
    }
  }

  /**
   * Lowest priority through the map: the mask reduced to one candidate. With vector hashing an empty slot may win:
   * nobody gets it.
   */
  private electCandidate(map: ApicMap, dest: number, mask: number, vector: number): number {
    if (this.vectorHashing) return 1 << nthBit(mask, vector % bitCount(mask));
    let winner = -1;
    let least = 0;
    for (let bit = 0; bit < 16; bit++) {
      const target = (mask >>> bit) & 1 ? map.logicalCandidate(dest, bit) : null;
      if (target === null) continue;
      if (winner < 0 || target.arbitration < least) {
        winner = bit;
        least = target.arbitration;
      }
    }
    return winner < 0 ? 0 : 1 << winner;
  }

  /** Asks every APIC in turn whether it is meant. */
  private routeSlow(source: Lapic | null, icrLow: number, dest: number): void {
    if ((icrLow & ICR_SHORTHAND) !== 0) reach(AT_SLOW_SHORTHAND);
    else if (this.map === null) reach(AT_SLOW_NO_MAP);
    else if ((icrLow & ICR_LOGICAL) !== 0 && this.map.logicalMode === 'none') reach(AT_SLOW_MIXED);
    else reach(AT_SLOW_BROADCAST);
    const low = isLowestBroadcast(icrLow, dest) ? icrLow & ~ICR_MODE : icrLow;
    if (low !== icrLow) reach(AT_LOWEST_BROADCAST);
    const lowest = (low & ICR_MODE) === MODE_LOWEST << ICR_MODE_SHIFT;
    const vector = low & ICR_VECTOR;
    const contenders: Lapic[] = [];
    for (const lapic of this.lapics) {
      if (!lapic.hwEnabled || !this.isMeant(lapic, source, low, dest)) continue;
      if (!lowest) this.sink.deliver(lapic, low);
      else if (lapic.swEnabled) contenders.push(lapic);
    }
    if (lowest) reach(contenders.length === 0 ? AT_SLOW_LOWEST_NOBODY : AT_SLOW_LOWEST);
    if (contenders.length === 0) return;
    const winner = this.vectorHashing
      ? contenders[vector % contenders.length]
      : contenders.reduce((best, lapic) => (lapic.arbitration < best.arbitration ? lapic : best));
    this.sink.deliver(winner, low);
  }

  private isMeant(lapic: Lapic, source: Lapic | null, low: number, dest: number): boolean {
    switch ((low & ICR_SHORTHAND) >> ICR_SHORTHAND_SHIFT) {
      case SHORTHAND_NONE:
        return matches(lapic, dest, (low & ICR_LOGICAL) !== 0, source !== null, this.era, this.x2apicApi);
      case SHORTHAND_SELF:
        return lapic === source;
      case SHORTHAND_ALL_BUT_SELF:
        return lapic !== source;
      default:
        return true;
    }
  }
}
