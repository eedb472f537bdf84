/** Random programs that loop: integer instructions of every size and operand form around branches, calls and a data page. */
import type { Random } from '../cpu/fuzz/random.ts';

const NAMES: readonly (readonly string[])[] = [
  ['al', 'ax', 'eax', 'rax'],
  ['bl', 'bx', 'ebx', 'rbx'],
  ['dl', 'dx', 'edx', 'rdx'],
  ['ah', 'ax', 'eax', 'rax'],
  ['bh', 'bx', 'ebx', 'rbx'],
  ['cl', 'cx', 'ecx', 'rcx'],
];
const LONG_NAMES: readonly (readonly string[])[] = [
  ['r8b', 'r8w', 'r8d', 'r8'],
  ['r9b', 'r9w', 'r9d', 'r9'],
  ['r14b', 'r14w', 'r14d', 'r14'],
];
const SIZES = ['byte', 'word', 'dword', 'qword'];
const CONDITIONS = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];
const ALU = ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp'];
const SHIFTS = ['rol', 'ror', 'rcl', 'rcr', 'shl', 'shr', 'sar'];

/** The source of a program that ends with HLT after some thousand steps. RSI points to data, of which it uses 8 KiB. */
export function loopProgram(random: Random, long: boolean, data: number): string {
  const lines: string[] = [];
  const emit = (line: string): void => {
    // AH and BH have no encoding beside a register that needs REX.
    const rex = /\br\d+[bwd]?\b|\br[a-ds][a-z]\b|qword/.test(line);
    lines.push(rex ? line.replace(/\b([ab])h\b/g, '$1l') : line);
  };
  let label = 0;
  const word = long ? 3 : 2;
  const p = (name: string): string => (long ? 'r' : 'e') + name;
  const size = (): number => random.below(word + 1);
  const register = (of: number): string => {
    if (long && random.oneIn(3)) return random.pick(LONG_NAMES)[of];
    return random.pick(of === 0 ? NAMES : NAMES.slice(0, 3))[of];
  };
  const address = (): string => {
    const at = random.below(64) * 8 + (random.oneIn(6) ? random.below(8) : 0);
    switch (random.below(7)) {
      case 0:
        return `[${p('si')} + ${p('di')} + ${at}]`;
      case 1:
        return `[${p('di')}*4 + ${data + at}]`;
      case 2:
        return long ? `[rip + scratch]` : `[${data + at}]`;
      case 3:
        return `[${p('si')} + 0xff${random.pick(['8', 'c', 'd', 'e', 'f'])}]`;
      case 4:
        return `[esi + ${at}]`;
      default:
        return `[${p('si')} + ${at}]`;
    }
  };
  const memory = (of: number): string => `${SIZES[of]} ptr ${address()}`;
  const immediate = (of: number): string => {
    const value = random.pick([0, 1, -1, 2, 0x7f, -0x80, random.below(0x7fff), random.below(0x7fffffff)]);
    return String(of === 0 ? value & 0x7f : of === 1 ? value & 0x7fff : value);
  };
  const either = (of: number): string => (random.oneIn(2) ? memory(of) : register(of));

  const instruction = (): void => {
    const of = size();
    switch (random.below(22)) {
      case 0:
      case 1:
      case 2:
        emit(`${random.pick(ALU)} ${register(of)}, ${random.oneIn(2) ? memory(of) : register(of)}`);
        break;
      case 3:
        emit(`${random.pick(ALU)} ${memory(of)}, ${random.oneIn(2) ? register(of) : immediate(of)}`);
        break;
      case 4:
        emit(`${random.pick(ALU)} ${register(of)}, ${immediate(of)}`);
        break;
      case 5:
        emit(`${random.pick(['inc', 'dec', 'neg', 'not'])} ${either(of)}`);
        break;
      case 6:
        emit(`${random.pick(SHIFTS)} ${either(of)}, ${random.oneIn(2) ? random.below(32) : 1}`);
        break;
      case 7:
        emit(`${random.pick(SHIFTS)} ${either(of)}, cl`);
        break;
      case 8:
        emit(`set${random.pick(CONDITIONS)} ${either(0)}`);
        break;
      case 9: {
        const wide = Math.max(of, 1);
        emit(`cmov${random.pick(CONDITIONS)} ${register(wide)}, ${either(wide)}`);
        break;
      }
      case 10: {
        const from = random.below(2);
        const to = Math.max(of, from + 1);
        const name = long && to === 3 ? random.pick(LONG_NAMES)[to] : random.pick(NAMES.slice(0, 3))[to];
        emit(`mov${random.pick(['z', 's'])}x ${name}, ${from === 0 && to === 3 ? memory(0) : memory(from)}`);
        break;
      }
      case 11:
        emit(`mov ${register(of)}, ${random.oneIn(2) ? memory(of) : immediate(of)}`);
        break;
      case 12:
        emit(`mov ${memory(of)}, ${random.oneIn(2) ? register(of) : immediate(of)}`);
        break;
      case 13:
        emit(`test ${either(of)}, ${random.oneIn(2) ? register(of) : immediate(of)}`);
        break;
      case 14: {
        const wide = Math.max(of, 1);
        emit(
          random.oneIn(2)
            ? `imul ${register(wide)}, ${either(wide)}`
            : `imul ${register(wide)}, ${either(wide)}, ${immediate(wide)}`,
        );
        break;
      }
      case 15:
        emit(`xchg ${either(of)}, ${register(of)}`);
        break;
      case 16:
        emit(`lea ${register(word)}, ${address()}`);
        break;
      case 17:
        emit(`push ${register(word)}`);
        emit(`pop ${register(word)}`);
        break;
      case 18:
        emit(random.pick(long ? ['cdq', 'cqo', 'cwde', 'cdqe', 'cbw'] : ['cdq', 'cwde', 'cbw', 'cwd']));
        break;
      case 19:
        emit(`bswap ${register(random.oneIn(2) ? 2 : word)}`);
        break;
      case 20:
        emit(
          random.pick([
            'stc',
            'clc',
            'cmc',
            'lahf',
            'sahf',
            `bt ${register(Math.max(of, 1))}, ${random.below(16)}`,
            `mul ${either(of)}`,
            `xadd ${either(of)}, ${register(of)}`,
            `cmpxchg ${either(of)}, ${register(of)}`,
            `lock add ${memory(of)}, ${register(of)}`,
            `bt ${long ? 'rax, rdx' : 'eax, edx'}`,
            'xor edx, edx\n or bl, 1\n div ebx',
            'cdq\n or bl, 1\n idiv ebx',
            long ? 'xor edx, edx\n or bl, 1\n div rbx' : 'movsx edx, al\n or bl, 1\n idiv ebx',
            long ? 'cqo\n or bl, 1\n idiv rbx' : 'mov edx, eax\n or bl, 1\n div ebx',
            'nop',
            'pause',
          ]),
        );
        break;
      default:
        emit(`j${random.pick(CONDITIONS)} skip${label}`);
        emit(`${random.pick(ALU)} ${register(of)}, ${register(of)}`);
        emit(`skip${label++}:`);
    }
  };

  const functions = random.below(3);
  emit(`mov ${p('si')}, ${data}`);
  emit(`xor edi, edi`);
  emit(`mov ebp, ${30 + random.below(60)}`);
  emit(`outer:`);
  for (let n = 2 + random.below(10); n > 0; n--) instruction();
  if (random.oneIn(2)) {
    emit(`mov ecx, ${1 + random.below(9)}`);
    emit(`inner:`);
    for (let n = random.below(5); n > 0; n--) {
      const before = lines.length;
      instruction();
      // The counter of the loop stays what it is.
      if (lines.slice(before).some((line) => /\b([re]?cx|cl|ch)\b/.test(line.split(',')[0]))) lines.length = before;
      if (lines.slice(before).some((line) => /xchg|xadd/.test(line) && /\b([re]?cx|cl|ch)\b/.test(line))) {
        lines.length = before;
      }
    }
    emit(random.oneIn(2) ? 'loop inner' : `dec ecx\n jnz inner`);
  }
  for (let f = 0; f < functions; f++) if (random.oneIn(2)) emit(`call function${f}`);
  if (random.oneIn(3)) {
    emit(`push ${p('si')}`);
    emit(`push ${p('di')}`);
    emit(`mov ecx, ${random.below(20)}`);
    emit(`lea ${p('di')}, [${p('si')} + 512]`);
    emit(random.pick(['rep movsb', 'rep stosb', 'repe cmpsb', 'repne scasb', 'rep movsd']));
    emit(`pop ${p('di')}`);
    emit(`pop ${p('si')}`);
  }
  emit(`lea edi, [edi + ${random.pick([1, 4, 8, 24, 56])}]`);
  emit(`dec ebp`);
  emit(`jnz outer`);
  emit(`hlt`);
  for (let f = 0; f < functions; f++) {
    emit(`function${f}:`);
    if (random.oneIn(2)) emit(`push ${p('bp')}\n mov ${p('bp')}, ${p('sp')}`);
    const framed = lines[lines.length - 1].startsWith('push');
    for (let n = 1 + random.below(5); n > 0; n--) instruction();
    if (f + 1 < functions && random.oneIn(2)) emit(`call function${f + 1}`);
    if (framed) emit('leave');
    emit('ret');
  }
  emit(`.balign 8`);
  emit(`scratch: .quad 0x123456789abcdef0`);
  return lines.join('\n ');
}
