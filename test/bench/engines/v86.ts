/** v86 from npm, headless: a PC with our firmware, 32-bit, its JIT on. It yields to the event loop every few milliseconds. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { DONE_PORT, IDLE_PORT, type Image, MEMORY, romOf } from '../workloads.ts';
import { cpuSeconds, type Engine, type Machine, NO_TRAP, wentAstray } from './engine.ts';

/** The part of v86's API that is used here; `v86.cpu` is how its own devices get at their ports. */
interface Emulator {
  readonly v86: {
    readonly cpu: {
      readonly io: { register_write(port: number, device: object, write8: (value: number) => void): void };
      readonly devices: {
        readonly pci: {
          readonly devices: readonly ({ pci_bars: readonly (object | undefined)[] } | undefined)[];
          readonly device_spaces: Int32Array[];
        };
      };
    };
  };
  add_listener(event: string, listener: () => void): void;
  run(): Promise<void>;
  stop(): Promise<void>;
  save_state(): Promise<ArrayBuffer>;
  restore_state(state: ArrayBuffer): Promise<void>;
  destroy(): Promise<void>;
  read_memory(address: number, length: number): Uint8Array;
  write_memory(bytes: Uint8Array, address: number): void;
}

const require = createRequire(import.meta.url);
const VERSION = '0.5.462';
const VGA_BYTES = 1 << 20;
/** In 32-bit units of a PCI configuration space. */
const FIRST_BAR = 4;

export async function openV86(image: Image): Promise<Machine> {
  // The package has types for browsers, and of another shape of network options.
  const { V86 } = (await import('v86')) as unknown as { V86: new (options: object) => Emulator };
  const emulator = new V86({
    wasm_path: require.resolve('v86').replace(/libv86\.mjs$/, 'v86.wasm'),
    memory_size: MEMORY,
    vga_memory_size: VGA_BYTES,
    bios: { buffer: romOf(image).buffer },
    autostart: false,
    disable_speaker: true,
    disable_keyboard: true,
    disable_mouse: true,
    log_level: 0,
  });
  await new Promise<void>((resolve) => emulator.add_listener('emulator-loaded', resolve));
  const { io, devices } = emulator.v86.cpu;
  clearAbsentBars(devices.pci);
  let arrived: () => void = () => {};
  let at = 0;
  let handled = 0;
  io.register_write(DONE_PORT, { name: 'bench' }, () => {
    at = cpuSeconds();
    arrived();
  });
  io.register_write(IDLE_PORT, { name: 'bench' }, () => {
    handled++;
  });
  const ask = (laps: number): void => {
    const request = new Uint8Array(4);
    new DataView(request.buffer).setUint32(0, laps, true);
    emulator.write_memory(request, image.laps);
  };
  /** Runs to the port, from which on the guest spins until its slice ends. */
  const finish = async (): Promise<void> => {
    const done = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    await emulator.run();
    await done;
    await emulator.stop();
  };
  const machine = {
    result: () => {
      const bytes = emulator.read_memory(image.result, 4);
      return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
    },
    close: () => emulator.destroy(),
  };
  const { trips = 0, name, restores } = image.workload;
  if (!restores) {
    return {
      ...machine,
      run: async (laps) => {
        ask(laps);
        handled = 0;
        const start = cpuSeconds();
        await finish();
        if (name === 'out' && handled !== laps * trips)
          throw wentAstray('v86', `${handled} calls of the port's handler`);
        return at - start;
      },
    };
  }
  ask(1);
  await finish();
  ask(1);
  const state = await emulator.save_state();
  return {
    ...machine,
    run: async (laps) => {
      let seconds = 0;
      for (let lap = 0; lap < laps; lap++) {
        const start = cpuSeconds();
        await emulator.restore_state(state);
        await finish();
        seconds += at - start;
      }
      return seconds;
    },
  };
}

/** Base address registers that a device does not have: a BIOS clears them, and restore_state() counts on it. */
function clearAbsentBars({ devices, device_spaces }: Emulator['v86']['cpu']['devices']['pci']): void {
  devices.forEach((device, n) => {
    for (let i = 0; i < (device?.pci_bars.length ?? 0); i++) {
      if (!device?.pci_bars[i]) device_spaces[n][FIRST_BAR + i] = 0;
    }
  });
}

function whyMissing(): string | undefined {
  try {
    readFileSync(require.resolve('v86').replace(/libv86\.mjs$/, 'v86.wasm'));
    return undefined;
  } catch {
    return `the npm package v86 ${VERSION} is not installed`;
  }
}

export function v86(): Engine {
  const missing = whyMissing();
  return {
    ...{ name: 'v86', title: 'v86', bits: 32, open: openV86 },
    ...(missing === undefined ? {} : { missing }),
    lacks: { vmcall: 'has no VMCALL', icr: 'has no x2APIC' },
    does: { cpuid: NO_TRAP },
  };
}
