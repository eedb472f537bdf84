/**
 * Loader of Multiboot 1 images (Multiboot specification 0.6.96): finds the header, places the segments of the ELF file (or of the
 * header's own addresses), and builds the information that EBX points at.
 */
import { KvmscopeError } from '../errors.ts';
import { isElf, loadElf } from './elf.ts';

const HEADER_MAGIC = 0x1badb002;
/** EAX at the entry point. */
export const MULTIBOOT_MAGIC = 0x2badb002;
/** The header lies in the first 8 KiB, on a 4-byte boundary. */
const SEARCH = 8192;
const HEADER_BYTES = 12;
const HAS_ADDRESSES = 1 << 16;
/** Flags a loader must understand: modules aligned, memory information. */
const REQUIRED = 0xffff;
const UNDERSTOOD = 3;

// Information flags.
const INFO_MEMORY = 1 << 0;
const INFO_CMDLINE = 1 << 2;
const INFO_MODULES = 1 << 3;
const INFO_MMAP = 1 << 6;
const INFO_LOADER = 1 << 9;
const INFO_BYTES = 120;
const LOADER_NAME = 'kvmscope';

/** Where the information goes: below the last kilobyte of the first 640, which a BIOS keeps. */
const INFO_ADDRESS = 0x9e000;
const LOW_MEMORY = 0x9fc00;
const ONE_MIB = 0x100000;
/** Where guests look for firmware tables (ACPI specification 2.0, 5.2.4.1). */
export const BIOS_AREA = 0xe0000;

export interface BootImage {
  readonly segments: readonly { readonly address: number; readonly bytes: Uint8Array }[];
  readonly entry: number;
  /** Guest-physical address of the information: EBX. */
  readonly info: number;
}

export interface BootImageOptions {
  /** Bytes of RAM. */
  readonly memory: number;
  /** Arguments behind the image's name. */
  readonly append?: string;
  /** The one module. */
  readonly initrd?: Uint8Array;
}

/** Offset of the Multiboot header, -1 if the file has none. */
function findHeader(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = Math.min(SEARCH, bytes.length) - HEADER_BYTES;
  for (let at = 0; at <= end; at += 4) {
    if (view.getUint32(at, true) !== HEADER_MAGIC) continue;
    const sum = HEADER_MAGIC + view.getUint32(at + 4, true) + view.getUint32(at + 8, true);
    if (sum >>> 0 === 0) return at;
  }
  return -1;
}

/** Whether a file is a Multiboot image. */
export const isMultiboot = (bytes: Uint8Array): boolean => findHeader(bytes) >= 0;

/** Loads an image. Throws KvmscopeError('image') for what is not one, 'memory' for what does not fit. */
export function loadMultiboot(bytes: Uint8Array, name: string, options: BootImageOptions): BootImage {
  const fail = (message: string): never => {
    throw new KvmscopeError('image', `${name}: ${message}`);
  };
  const at = findHeader(bytes);
  if (at < 0)
    fail(
      'no Multiboot header in the first 8 KiB; kvmscope boot takes Multiboot 1 images such as *.flat of kvm-unit-tests',
    );
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getUint32(at + 4, true);
  if ((flags & REQUIRED & ~UNDERSTOOD) !== 0)
    fail(`its Multiboot header asks for more than is known: flags 0x${flags.toString(16)}`);
  const { segments, entry } = (flags & HAS_ADDRESSES) === 0 ? elfSegments() : ownSegments();
  const end = Math.max(...segments.map((segment) => segment.address + segment.bytes.length));
  if (end > options.memory) {
    throw new KvmscopeError(
      'memory',
      `${name} reaches to 0x${end.toString(16)}, beyond ${options.memory} bytes of RAM; give the machine more with --mem`,
    );
  }
  if (segments.some(({ address, bytes }) => address < ONE_MIB && address + bytes.length > INFO_ADDRESS))
    fail(
      `it covers 0x${INFO_ADDRESS.toString(16)}…0x${(ONE_MIB - 1).toString(16)}, where the loader and firmware have their tables`,
    );
  if (!segments.some(({ address, bytes }) => entry >= address && entry < address + bytes.length))
    fail(`its entry point 0x${entry.toString(16)} is not in the image`);
  return { ...information(segments, end, name, options), entry };

  function elfSegments(): Pick<BootImage, 'segments' | 'entry'> {
    if (!isElf(bytes)) fail('a Multiboot header without load addresses, and no ELF file');
    return loadElf(bytes, name);
  }

  function ownSegments(): Pick<BootImage, 'segments' | 'entry'> {
    if (at + 32 > bytes.length) fail('the Multiboot header is cut off');
    const [header, load, loadEnd, bssEnd, start] = [12, 16, 20, 24, 28].map((offset) =>
      view.getUint32(at + offset, true),
    );
    const from = at - (header - load);
    const length = loadEnd === 0 ? bytes.length - from : loadEnd - load;
    if (from < 0 || length < 0 || from + length > bytes.length)
      fail('the load addresses of its Multiboot header do not fit the file');
    const size = Math.max(length, bssEnd === 0 ? 0 : bssEnd - load);
    if (load + size > options.memory)
      return { segments: [{ address: load + size, bytes: new Uint8Array(0) }], entry: start };
    const memory = new Uint8Array(size);
    memory.set(bytes.subarray(from, from + length));
    return { segments: [{ address: load, bytes: memory }], entry: start };
  }
}

/** Adds the module and the information to the image's segments. */
function information(
  image: BootImage['segments'],
  end: number,
  name: string,
  { memory, append = '', initrd }: BootImageOptions,
): Omit<BootImage, 'entry'> {
  const segments = [...image];
  const block = new Uint8Array(INFO_BYTES + 24 * 4 + 16 + 4096);
  const view = new DataView(block.buffer);
  let next = INFO_BYTES;
  const text = (value: string): number => {
    const encoded = new TextEncoder().encode(`${value}\0`);
    if (next + encoded.length > block.length) {
      throw new KvmscopeError(
        'usage',
        `arguments of ${value.length} characters are too long; at most 4,000 are passed`,
      );
    }
    block.set(encoded, next);
    next += (encoded.length + 3) & ~3;
    return INFO_ADDRESS + next - ((encoded.length + 3) & ~3);
  };

  const ranges: readonly (readonly [number, number, number])[] = [
    [0, LOW_MEMORY, 1],
    [LOW_MEMORY, 0xa0000 - LOW_MEMORY, 2],
    [BIOS_AREA, ONE_MIB - BIOS_AREA, 2],
    [ONE_MIB, Math.max(0, memory - ONE_MIB), 1],
  ];
  const mmap = INFO_ADDRESS + next;
  for (const [base, length, type] of ranges) {
    view.setUint32(next, 20, true);
    view.setUint32(next + 4, base, true);
    view.setUint32(next + 12, length, true);
    view.setUint32(next + 20, type, true);
    next += 24;
  }
  view.setUint32(44, ranges.length * 24, true);
  view.setUint32(48, mmap, true);

  view.setUint32(4, LOW_MEMORY >> 10, true);
  view.setUint32(8, Math.max(0, memory - ONE_MIB) >> 10, true);
  view.setUint32(16, text(`${name}${append === '' ? '' : ` ${append}`}`), true);
  view.setUint32(64, text(LOADER_NAME), true);
  let flags = INFO_MEMORY | INFO_CMDLINE | INFO_MMAP | INFO_LOADER;
  if (initrd !== undefined) {
    const start = Math.max((end + 4095) & ~4095, ONE_MIB);
    if (start + initrd.length > memory) {
      throw new KvmscopeError(
        'memory',
        `the initrd of ${initrd.length} bytes does not fit behind the image; give the machine more with --mem`,
      );
    }
    segments.push({ address: start, bytes: initrd });
    const module = next;
    next += 16;
    view.setUint32(module, start, true);
    view.setUint32(module + 4, start + initrd.length, true);
    view.setUint32(module + 8, text('initrd'), true);
    view.setUint32(20, 1, true);
    view.setUint32(24, INFO_ADDRESS + module, true);
    flags |= INFO_MODULES;
  }
  view.setUint32(0, flags, true);
  segments.push({ address: INFO_ADDRESS, bytes: block.subarray(0, next) });
  return { segments, info: INFO_ADDRESS };
}
