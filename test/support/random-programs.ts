/** Random guest programs: bytes mixed with instructions that leave the guest or change its mode, and options for their VM. */
import { ERAS, type MachineOptions } from '../../src/index.ts';

/** A small generator of its own, so that the programs stay what they are. */
export function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 8;
  };
}

/** Instructions that leave the guest or change its mode, to be mixed with random bytes. */
const FRAGMENTS: readonly (readonly number[])[] = [
  [0x0f, 0x01, 0xc1], // vmcall
  [0x0f, 0x01, 0xd9], // vmmcall
  [0x0f, 0x30], // wrmsr
  [0x0f, 0x32], // rdmsr
  [0x0f, 0xa2], // cpuid
  [0xb9, 0x30, 0x08, 0x00, 0x00], // mov ecx, 0x830
  [0xb9, 0x1b, 0x00, 0x00, 0x00], // mov ecx, 0x1b
  [0xb9, 0x32, 0x08, 0x00, 0x00, 0xb8, 0x40, 0x00, 0x02, 0x00, 0x31, 0xd2, 0x0f, 0x30], // LVT timer := periodic, 0x40
  [0xb9, 0x32, 0x08, 0x00, 0x00, 0xb8, 0x40, 0x00, 0x04, 0x00, 0x31, 0xd2, 0x0f, 0x30], // LVT timer := TSC deadline, 0x40
  [0xb9, 0x38, 0x08, 0x00, 0x00, 0x31, 0xd2, 0x0f, 0x30], // initial count := eax
  [0xb9, 0xe0, 0x06, 0x00, 0x00, 0x31, 0xd2, 0x0f, 0x30], // TSC deadline := eax
  [0x0f, 0x31], // rdtsc
  [0xb8, 0x0a, 0x00, 0x00, 0x00], // mov eax, 10
  [0xbb, 0x03, 0x00, 0x00, 0x00], // mov ebx, 3
  [0xbe, 0xd1, 0x00, 0x00, 0x00], // mov esi, 0xd1
  [0xf4], // hlt
  [0xf3, 0x90], // pause
  [0xfa], // cli
  [0xfb], // sti
  [0xec], // in al, dx
  [0xee], // out dx, al
  [0xf3, 0x6c], // rep insb
  [0xf3, 0xaa], // rep stosb
  [0xcd, 0x20], // int 0x20
  [0x0f, 0x0b], // ud2
  [0x0f, 0x20, 0xc0], // mov eax, cr0
  [0x0f, 0x22, 0xc0], // mov cr0, eax
  [0x0f, 0x22, 0xd8], // mov cr3, eax
  [0x44, 0x0f, 0x22, 0xc0], // mov cr8, rax
  [0xcf], // iretd
  [0x48, 0xcf], // iretq
  [0xcb], // retf
  [0x0f, 0x05], // syscall
  [0x0f, 0x07], // sysret
  [0x0f, 0x01, 0x18], // lidt [rax]
];

export function randomBytes(next: () => number): Uint8Array {
  const bytes: number[] = [];
  while (bytes.length < 96) {
    if (next() % 2 === 0) bytes.push(...FRAGMENTS[next() % FRAGMENTS.length]);
    else for (let i = next() % 6; i >= 0; i--) bytes.push(next() & 0xff);
  }
  return Uint8Array.from(bytes);
}

const MODES = ['long64', 'prot32', 'compat32', 'real16', 'reset'] as const;

export function randomOptions(next: () => number): MachineOptions {
  const mode = MODES[next() % MODES.length];
  return {
    mode,
    vcpus: 1 + (next() % 3),
    aps: 'run',
    cpl: mode === 'reset' || mode === 'real16' || next() % 4 > 0 ? 0 : 3,
    vendor: next() % 2 === 0 ? 'intel' : 'amd',
    kvm: ERAS[next() % ERAS.length].name,
    apic: next() % 4 === 0 ? 'xapic' : 'x2apic',
    budget: 10_000,
    seed: next(),
  };
}
