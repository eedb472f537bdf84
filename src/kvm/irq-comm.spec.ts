import { describe, expect, it } from 'vitest';
import { resolveEra } from './eras.ts';
import { DELIVERY_MODES, Icr } from './icr.ts';
import { type MessageSink, Router } from './irq-comm.ts';
import { APIC_LDR, APIC_SVR, Lapic } from './lapic.ts';

interface Options {
  readonly era?: string;
  readonly x2apicApi?: number;
  readonly vectorHashing?: boolean;
  /** Mode of each APIC, ids 0, 1, 2 … */
  readonly modes?: readonly ('x2apic' | 'xapic')[];
}

/** A router over APICs that stand alone; what it delivers is noted as `id:mode:vector`. */
function setup(options: Options = {}): { router: Router; lapics: Lapic[]; sent: string[] } {
  const era = resolveEra(options.era);
  const lapics = (options.modes ?? Array<'x2apic'>(4).fill('x2apic')).map((mode, id) => {
    const lapic = new Lapic(id, id, era);
    lapic.setBase(mode === 'x2apic' ? 0xfee00c00 : 0xfee00800, 0);
    lapic.write(APIC_SVR, 0x1ff);
    if (mode === 'xapic') lapic.write(APIC_LDR, (1 << (24 + id)) >>> 0);
    return lapic;
  });
  const sent: string[] = [];
  const sink: MessageSink = {
    deliver: (target, message) => {
      const { mode, vector } = Icr.fromLow(message, 0);
      sent.push(`${target.vcpuId}:${DELIVERY_MODES.indexOf(mode)}:${vector.toString(16)}`);
      return target.accept(message);
    },
  };
  const { x2apicApi = 0, vectorHashing = true } = options;
  return { router: new Router({ lapics, era, x2apicApi, vectorHashing, sink }), lapics, sent };
}

describe('Router', () => {
  it.each<[what: string, low: number, dest: number, sent: string[]]>([
    ['physical', 0x41, 2, ['2:0:41']],
    ['physical to nobody', 0x41, 9, []],
    ['physical 255', 0x41, 255, []],
    ['broadcast', 0x41, 0xffffffff, ['0:0:41', '1:0:41', '2:0:41', '3:0:41']],
    ['logical', 0x841, 0b1010, ['1:0:41', '3:0:41']],
    ['logical, other cluster', 0x841, 0x10001, []],
    ['self', 0x40441, 9, ['0:4:41']],
    ['all', 0x80041, 9, ['0:0:41', '1:0:41', '2:0:41', '3:0:41']],
    ['all but self', 0xc0041, 9, ['1:0:41', '2:0:41', '3:0:41']],
    ['lowest priority, physical', 0x141, 2, ['2:1:41']],
    ['lowest priority, logical', 0x942, 0b1110, ['1:1:42']],
    ['lowest priority, all', 0x80141, 9, ['1:1:41']],
    ['lowest priority, all, destination 0xFF', 0x80141, 0xff, ['0:0:41', '1:0:41', '2:0:41', '3:0:41']],
    ['lowest priority, broadcast', 0x142, 0xffffffff, ['2:1:42']],
  ])('%s', (_what, low, dest, expected) => {
    const { router, lapics, sent } = setup();
    router.route(lapics[0], low, dest);
    expect(sent).toEqual(expected);
  });

  it('sends what no APIC sent to everybody at 0xFF, and drops a self message', () => {
    const { router, sent } = setup();
    router.route(null, 0x300, 0xff);
    expect(sent).toEqual(['0:3:0', '1:3:0', '2:3:0', '3:3:0']);
    router.route(null, 0x40041, 0);
    expect(sent).toHaveLength(4);
  });

  it('in a mixed VM matches each target by its own mode', () => {
    const { router, lapics, sent } = setup({ modes: ['x2apic', 'xapic', 'x2apic', 'xapic'] });
    router.route(lapics[0], 0x841, 0xff);
    router.route(lapics[0], 0x42, 0xff);
    router.route(lapics[1], 0x43, 0xff);
    router.route(lapics[0], 0x44, 0xffffffff);
    router.route(lapics[1], 0x80045, 0);
    const to = (vector: string): string[] => sent.filter((entry) => entry.endsWith(vector)).map((entry) => entry[0]);
    // Logical cluster 0 for the x2APIC ones, a broadcast for the xAPIC ones.
    expect(to('41')).toEqual(['0', '1', '2', '3']);
    expect(to('42')).toEqual([]);
    expect(to('43')).toEqual(['1', '3']);
    expect(to('44')).toEqual(['0', '2']);
    expect(to('45')).toEqual(['0', '1', '2', '3']);
  });

  it('rebuilds the map only when told that something changed', () => {
    const { router, lapics, sent } = setup();
    router.route(lapics[0], 0x41, 2);
    lapics[2].setBase(0xfee00000, 0);
    router.invalidateMap();
    router.route(lapics[0], 0x42, 2);
    expect(sent).toEqual(['2:0:41']);
  });

  it('lowest priority skips software-disabled APICs only where it asks them one by one', () => {
    const { router, lapics, sent } = setup();
    lapics[1].write(APIC_SVR, 0xff);
    router.invalidateMap();
    // 0x41 mod 3 = 2 of the candidates 0, 2, 3.
    router.route(lapics[0], 0x80141, 0);
    // Through the map the disabled one still counts: 0x41 mod 4 = 1.
    router.route(lapics[0], 0x941, 0b1111);
    expect(sent).toEqual(['3:1:41', '1:1:41']);
    expect(lapics[1].irr()).toEqual([]);
  });

  it('v5.5 makes lowest priority to physical 0xFF Fixed before it looks at the map', () => {
    const mode = (era: string): string[] => {
      const { router, lapics, sent } = setup({ era, modes: Array<'x2apic'>(256).fill('x2apic') });
      router.route(lapics[0], 0x141, 0xff);
      return sent;
    };
    expect([mode('5.5'), mode('5.6')]).toEqual([['255:0:41'], ['255:1:41']]);
  });
});
