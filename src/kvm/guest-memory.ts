/**
 * KVM's own accesses to guest memory (kvm_read_guest, kvm_write_guest, gfn_to_hva_cache): guest-physical, little-endian,
 * without paging. RAM lies from 0 on without holes, so an address is valid if the whole range is in RAM.
 */
import type { Cpu } from '../cpu/cpu.ts';

/** The offset in RAM of `length` bytes at guest-physical address `gpa`, -1 if they are not all memory. */
export function ramAddress(cpu: Cpu, gpa: bigint, length: number): number {
  return gpa + BigInt(length) <= BigInt(cpu.memory.length) ? Number(gpa) : -1;
}

export function readGuest32(cpu: Cpu, address: number): number {
  const { memory } = cpu;
  return (
    (memory[address] | (memory[address + 1] << 8) | (memory[address + 2] << 16) | (memory[address + 3] << 24)) >>> 0
  );
}

export function writeGuest32(cpu: Cpu, address: number, value: number): void {
  const { memory } = cpu;
  cpu.memoryWritten(address, 4);
  for (let i = 0; i < 4; i++) memory[address + i] = value >>> (i * 8);
}

export function readGuest64(cpu: Cpu, address: number): bigint {
  return (BigInt(readGuest32(cpu, address + 4)) << 32n) | BigInt(readGuest32(cpu, address));
}

/** Writes the low 64 bits of `value`. */
export function writeGuest64(cpu: Cpu, address: number, value: bigint): void {
  writeGuest32(cpu, address, Number(BigInt.asUintN(32, value)));
  writeGuest32(cpu, address + 4, Number(BigInt.asUintN(32, value >> 32n)));
}

export function writeGuest8(cpu: Cpu, address: number, value: number): void {
  cpu.memoryWritten(address, 1);
  cpu.memory[address] = value;
}

/**
 * kvm_write_guest: page by page, so that what lies before the end of memory is written even if the rest is not. Returns
 * whether everything was.
 */
export function writeGuest(cpu: Cpu, gpa: bigint, bytes: Uint8Array): boolean {
  const size = BigInt(cpu.memory.length);
  if (gpa >= size) return false;
  const address = Number(gpa);
  const length = Math.min(bytes.length, cpu.memory.length - address);
  cpu.memoryWritten(address, length);
  cpu.memory.set(bytes.subarray(0, length), address);
  return length === bytes.length;
}
