import { createVm } from 'kvmscope';
import { expect, it } from 'vitest';
import 'kvmscope/vitest';

it('reaches three processors with one exit', async () => {
  const vm = await createVm({ vcpus: 4, kvm: '6.18' });
  vm.load('mov eax, 10\n mov ebx, 0b1110\n xor ecx, ecx\n xor edx, edx\n mov esi, 0xd1\n vmcall\n hlt');
  const run = vm.run();
  expect(run).toHaveRegisters({ rax: 3n });
  expect(run).toHaveExits({ vmcall: 1 });
  expect(run).toEndWith('halted');
});
