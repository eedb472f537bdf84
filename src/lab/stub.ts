/**
 * Guest code that performs one stimulus at a time: an instruction or two, each followed by a landing place where the guest turns in
 * circles, and so is the handler of every exception. Where RIP stands afterwards says how the stimulus ended.
 */
import type { Vendor } from '../cpu/cpu.ts';
import { BOOT_LAYOUT, SELECTOR } from '../machine/boot-state.ts';

/** Code size and privilege of the guest code that performs the stimuli. */
export type CallerMode = 'real16' | 'prot32' | 'prot32-user' | 'compat32' | 'compat32-user' | 'long64' | 'long64-user';

/** JMP to itself. */
const CIRCLE = [0xeb, 0xfe] as const;
const HANDLER_BYTES = CIRCLE.length;
export const EXCEPTIONS = 32;
const VECTORS = 256;

interface Piece {
  readonly at: number;
  readonly code: (vendor: Vendor) => readonly number[];
  /** Bytes before the landing place. */
  readonly length: number;
}

const SPACING = 0x20;
const piece = (slot: number, intel: readonly number[], amd: readonly number[] = intel): Piece => ({
  at: BOOT_LAYOUT.origin + slot * SPACING,
  code: (vendor) => (vendor === 'intel' ? intel : amd),
  length: intel.length,
});

/**
 * By stimulus. Registers in real mode are those of the 16-bit forms, so only the first three mean the same there.
 */
export const STUB = {
  wrmsr: piece(0, [0x0f, 0x30]),
  rdmsr: piece(1, [0x0f, 0x32]),
  /** VMCALL, VMMCALL. */
  call: piece(2, [0x0f, 0x01, 0xc1], [0x0f, 0x01, 0xd9]),
  /** MOV [RDI], EAX; the same bytes in 32-bit code. */
  store: piece(3, [0x89, 0x07]),
  /** MOV EAX, [RDI]. */
  load: piece(4, [0x8b, 0x07]),
  /** MOV [RDI+0x310], EDX; MOV [RDI+0x300], EAX. */
  icrStores: piece(5, [0x89, 0x97, 0x10, 0x03, 0, 0, 0x89, 0x87, 0x00, 0x03, 0, 0]),
  /** MOV CR8, RAX. */
  cr8: piece(6, [0x44, 0x0f, 0x22, 0xc0]),
  /** STI; NOP; CLI. */
  take: piece(7, [0xfb, 0x90, 0xfa]),
  /** STI; HLT; CLI. */
  hlt: piece(8, [0xfb, 0xf4, 0xfa]),
} as const;
export type Stimulus = keyof typeof STUB;

/** Handlers of exceptions, in a row. */
const HANDLERS = BOOT_LAYOUT.origin + 0x200;
/** An IRET. */
const RETURN = HANDLERS + EXCEPTIONS * HANDLER_BYTES;
/** The IDT, in real mode the vector table. */
export const STUB_IDT = BOOT_LAYOUT.origin + 0x1000;

/** Bytes of one entry of the IDT or of the vector table. */
export const gateSize = (mode: CallerMode): number => (mode === 'real16' ? 4 : mode.startsWith('prot32') ? 8 : 16);
/** Limit of IDTR for the gates of `stub`. */
export const idtLimit = (mode: CallerMode, gates = VECTORS): number => gates * gateSize(mode) - 1;
/** Present, DPL 0, 32-bit or 64-bit interrupt gate. */
const INTERRUPT_GATE = 0x8e00;

/**
 * Stimuli, handlers and gates, to be written at the origin of programs. `returns`: vectors whose handler only returns; the other
 * exceptions end in a circle, and other vectors have no gate.
 */
export function stub(mode: CallerMode, vendor: Vendor, returns: (vector: number) => boolean = () => false): Uint8Array {
  const base = BOOT_LAYOUT.origin;
  const bytes = new Uint8Array(STUB_IDT - base + VECTORS * gateSize(mode));
  const put = (address: number, code: readonly number[]): void => bytes.set(code, address - base);
  for (const { at, code } of Object.values(STUB)) put(at, [...code(vendor), ...CIRCLE]);
  put(RETURN, gateSize(mode) === 16 ? [0x48, 0xcf] : [0xcf]);
  const view = new DataView(bytes.buffer);
  const size = gateSize(mode);
  for (let vector = 0; vector < VECTORS; vector++) {
    const circle = HANDLERS + vector * HANDLER_BYTES;
    if (vector < EXCEPTIONS) put(circle, CIRCLE);
    else if (!returns(vector)) continue;
    const gate = STUB_IDT - base + vector * size;
    view.setUint16(gate, returns(vector) ? RETURN : circle, true);
    if (mode === 'real16') continue;
    view.setUint16(gate + 2, size === 16 ? SELECTOR.code64 : SELECTOR.code32, true);
    view.setUint16(gate + 4, INTERRUPT_GATE, true);
  }
  return bytes;
}

/** Vector of the exception whose handler starts at this address, -1: none. */
export function handlerAt(rip: number): number {
  const vector = (rip - HANDLERS) / HANDLER_BYTES;
  return vector >= 0 && vector < EXCEPTIONS ? vector : -1;
}
