/**
 * `npm run bench [-- --json] [-- --rounds N]`: speed of the CPU core and of the way guest → KVM handler → guest, measured side by
 * side in one process. Absolute rates are those of the machine; the ratios are what carries over.
 */
import { createVm, type Vm } from '../../src/index.ts';
import { measure, type Row, type Workload } from './measure.ts';
import { snapshotWorkloads } from './snapshots.ts';

const STEPS = 4_000_000;
const TRIPS = 400_000;

/** A VM with a guest that never ends; `run` executes a number of its steps. */
async function endless(source: string, vcpus = 1): Promise<Vm> {
  const vm = await createVm({ vcpus, record: false, budget: Number.MAX_SAFE_INTEGER });
  vm.load(source);
  return vm;
}

/** Steps of vCPU 0 while KVM_RUN uses up a budget. */
const steps = (vm: Vm, budget: number): number => {
  const before = vm.kvm.cpu.vcpu(0).steps;
  vm.kvm.run(0, budget);
  return vm.kvm.cpu.vcpu(0).steps - before;
};

/** Exits of vCPU 0 while KVM_RUN uses up a budget. */
const exits = (vm: Vm, budget: number): number => {
  const count = (): number => Object.values(vm.kvm.vcpus[0].counters.byReason).reduce((sum, n) => sum + n, 0);
  const before = count();
  vm.kvm.run(0, budget);
  return count() - before;
};

const ALU = `
  mov rcx, -1
loop:
  add rax, rcx
  xor rdx, rax
  lea rbx, [rax + rdx*2 + 1]
  mov rsi, rbx
  and rsi, rdx
  sub rdi, rsi
  dec rcx
  jnz loop
`;

const SIEVE = `
outer:
  lea rdi, [0x100000]
  mov ecx, 65536
  mov al, 1
  rep stosb
  mov esi, 2
next:
  movzx eax, byte ptr [0x100000 + rsi]
  test eax, eax
  jz advance
  lea rdi, [rsi + rsi]
mark:
  mov byte ptr [0x100000 + rdi], ah
  add rdi, rsi
  cmp rdi, 65536
  jb mark
advance:
  inc rsi
  cmp rsi, 256
  jb next
  jmp outer
`;

const FIB = `
  mov edi, 24
again:
  mov edi, 24
  call fib
  jmp again
fib:
  cmp edi, 2
  jb small
  push rdi
  dec edi
  call fib
  pop rdi
  push rax
  sub edi, 2
  call fib
  pop rdx
  add rax, rdx
  ret
small:
  mov eax, edi
  ret
`;

const VMCALL = `
  mov ebx, 2
  xor ecx, ecx
  xor edx, edx
  mov esi, 0xf0
loop:
  mov eax, 10
  vmcall
  jmp loop
`;

const ICR = `
  mov ecx, 0x830
  xor edx, edx
  inc edx
  mov eax, 0xf0
loop:
  wrmsr
  jmp loop
`;

const CPUID = `
loop:
  xor eax, eax
  cpuid
  jmp loop
`;

/** Keeps the compiler from dropping a loop whose result nobody reads. */
let sink = 0;

/** The host's own JavaScript doing the ALU loop's work in 32 bits: what the machine gives a JIT-compiled loop. */
function hostLoop(): number {
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  const rounds = STEPS * 8;
  for (let n = rounds; n !== 0; n--) {
    a = (a + n) | 0;
    b ^= a;
    c = (a + b * 2 + 1) | 0;
    d = (d - (c & b)) | 0;
  }
  sink ^= d;
  return rounds * 8;
}

async function main(): Promise<void> {
  const args = process.argv.slice(2);
  const at = args.indexOf('--rounds');
  const rounds = at >= 0 ? Number(args[at + 1]) : 7;
  if (!Number.isInteger(rounds) || rounds < 1) {
    console.error('bench: --rounds wants a whole number from 1');
    process.exit(2);
  }
  const alu = await endless(ALU);
  const sieve = await endless(SIEVE);
  const fib = await endless(FIB);
  const vmcall = await endless(VMCALL, 2);
  const self = await endless(VMCALL.replace('mov ebx, 2', 'mov ebx, 1'));
  const wide = await endless(VMCALL.replace('mov ebx, 2', 'mov rbx, -1').replace('xor ecx, ecx', 'mov rcx, -1'), 80);
  const icr = await endless(ICR, 2);
  const cpuid = await endless(CPUID);

  const workloads: Workload[] = [
    { name: 'host JavaScript loop', unit: 'operation', run: hostLoop },
    { name: 'ALU loop', unit: 'guest instruction', against: 'host JavaScript loop', run: () => steps(alu, STEPS) },
    {
      name: 'sieve (loads, stores, REP STOS)',
      unit: 'guest step',
      against: 'ALU loop',
      run: () => steps(sieve, STEPS),
    },
    { name: 'fib (calls, pushes)', unit: 'guest instruction', against: 'ALU loop', run: () => steps(fib, STEPS) },
    { name: 'vmcall, PV IPI to one', unit: 'round trip', against: 'ALU loop', run: () => exits(vmcall, TRIPS * 4) },
    {
      name: 'vmcall, PV IPI to itself, IF = 0',
      unit: 'round trip',
      against: 'vmcall, PV IPI to one',
      run: () => exits(self, TRIPS * 4),
    },
    {
      name: 'vmcall, PV IPI to 80',
      unit: 'round trip',
      against: 'vmcall, PV IPI to one',
      run: () => exits(wide, TRIPS),
    },
    {
      name: 'wrmsr 0x830, unicast fastpath',
      unit: 'round trip',
      against: 'vmcall, PV IPI to one',
      run: () => exits(icr, TRIPS * 3),
    },
    { name: 'cpuid', unit: 'round trip', against: 'vmcall, PV IPI to one', run: () => exits(cpuid, TRIPS) },
    ...(await snapshotWorkloads()),
  ];
  const rows = measure(workloads, rounds);
  if (args.includes('--json')) {
    console.log(JSON.stringify({ kvmscope: 1, rounds, rows }, null, 2));
    return;
  }
  print(rows, rounds);
  if (Number.isNaN(sink)) console.log(sink);
}

function print(rows: readonly Row[], rounds: number): void {
  console.log(`median of ${rounds} rounds, in turn, CPU time of one process; spread = (max - min) / median\n`);
  console.log(
    `${'workload'.padEnd(34)}${'million/s'.padStart(10)}${'ns each'.padStart(10)}${'spread'.padStart(9)}   ratio`,
  );
  for (const row of rows) {
    const rate = (row.median / 1e6).toFixed(row.median >= 1e8 ? 0 : 2);
    const each = (1e9 / row.median).toFixed(2);
    const spread = `${(((row.max - row.min) / row.median) * 100).toFixed(0)} %`;
    const ratio = row.ratio ? `${row.ratio.value.toFixed(3)} x ${row.ratio.to}` : '';
    console.log(`${row.name.padEnd(34)}${rate.padStart(10)}${each.padStart(10)}${spread.padStart(9)}   ${ratio}`);
  }
}

await main();
