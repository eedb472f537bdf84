/**
 * A process of its own for test/machine/exit-allocations.spec.ts: for each guest loop the bytes that the JavaScript heap grows by per exit,
 * as JSON. Start it with a new space large enough that nothing is collected meanwhile.
 */
import { createVm } from '../../src/index.ts';

const sendIpi = (low: string, high = '0'): string => `
  mov rbx, ${low}
  mov rcx, ${high}
  xor edx, edx
  mov esi, 0xf0
loop:
  mov eax, 10
  vmcall
  jmp loop
`;

const writeMsr = (msr: string, low: string, high: string): string => `
  mov ecx, ${msr}
  mov eax, ${low}
  mov edx, ${high}
loop:
  wrmsr
  jmp loop
`;

const GUESTS: Readonly<Record<string, string>> = {
  'PV IPI to one': sendIpi('2'),
  'PV IPI to itself': sendIpi('1'),
  'PV IPI to all, 128 bits': sendIpi('-1', '-1'),
  'PV IPI refused': sendIpi('2').replace('0xf0', '0x8f0'),
  'ICR, one target': writeMsr('0x830', '0xf0', '1'),
  'ICR, nobody there': writeMsr('0x830', '0xf0', '0x80000000'),
  'ICR, broadcast': writeMsr('0x830', '0xf0', '0xffffffff'),
  'ICR, shorthand': writeMsr('0x830', '0xc00f0', '0x90000000'),
  'ICR, cluster': writeMsr('0x830', '0x8f0', '0xf'),
  'ICR, NMI': writeMsr('0x830', '0x400', '1'),
  EOI: writeMsr('0x80b', '0', '0'),
  CPUID: 'loop: xor ecx, ecx\nmov eax, 1\ncpuid\njmp loop',
};

/** Steps of one stretch, and the most stretches: the first ones warm up, and the best counts. */
const BUDGET = 100_000;
const STRETCHES = 50;
/** The measurement itself takes some hundred bytes for a stretch's tens of thousands of exits. */
const NOTHING = 1;

const bytes: Record<string, number> = {};
for (const [name, source] of Object.entries(GUESTS)) {
  const vm = await createVm({ vcpus: 4, record: false });
  vm.load(source);
  const { kvm } = vm;
  const { exitCounts } = kvm.vcpus[0];
  let least = Number.POSITIVE_INFINITY;
  for (let stretch = 0; stretch < STRETCHES && least > NOTHING; stretch++) {
    const exits = exitCounts.reduce((sum, n) => sum + n, 0);
    const before = process.memoryUsage().heapUsed;
    kvm.run(0, BUDGET);
    const grown = process.memoryUsage().heapUsed - before;
    least = Math.min(least, Math.abs(grown) / (exitCounts.reduce((sum, n) => sum + n, 0) - exits));
  }
  bytes[name] = least;
  vm.dispose();
}
console.log(JSON.stringify(bytes));
