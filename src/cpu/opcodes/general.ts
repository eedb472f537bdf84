/** Rows of the instruction table: integer and system instructions. The grammar is described in ../opcodes.ts. */

const ALU = ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp'];
const SHIFTS = ['rol', 'ror', 'rcl', 'rcr', 'shl', 'shr', 'shl', 'sar'];
const CONDITIONS = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];
const BIT_TESTS = ['bt', 'bts', 'btr', 'btc'];

const hex = (value: number): string => value.toString(16).toUpperCase().padStart(2, '0');

const regular: readonly string[] = [
  ...ALU.flatMap((name, i) => {
    const undef = name === 'or' || name === 'and' || name === 'xor' ? ' u:AF' : '';
    const lock = `${name === 'cmp' ? '' : 'lock'}${undef}`;
    return [
      `${hex(i * 8)} | ${name} | Eb,Gb | ALU_EG:${i} | ${lock}`,
      `${hex(i * 8 + 1)} | ${name} | Ev,Gv | ALU_EG:${i} | ${lock}`,
      `${hex(i * 8 + 2)} | ${name} | Gb,Eb | ALU_GE:${i} |${undef}`,
      `${hex(i * 8 + 3)} | ${name} | Gv,Ev | ALU_GE:${i} |${undef}`,
      `${hex(i * 8 + 4)} | ${name} | Ab,Ib | ALU_EI:${i} |${undef}`,
      `${hex(i * 8 + 5)} | ${name} | Av,Iz | ALU_EI:${i} |${undef}`,
      `80 /${i} | ${name} | Eb,Ib | ALU_EI:${i} | ${lock}`,
      `81 /${i} | ${name} | Ev,Iz | ALU_EI:${i} | ${lock}`,
      `82 /${i} | ${name} | Eb,Ib | ALU_EI:${i} | ${lock} i64`,
      `83 /${i} | ${name} | Ev,Ibs | ALU_EI:${i} | ${lock}`,
    ];
  }),
  ...SHIFTS.flatMap((name, i) => {
    const undef = i < 4 ? 'u:OF>1' : i === 7 ? 'u:AF,OF>1' : 'u:AF,OF>1,CF>=n';
    return [
      `C0 /${i} | ${name} | Eb,Ib | SHIFT_EI:${i} | ${undef}`,
      `C1 /${i} | ${name} | Ev,Ib | SHIFT_EI:${i} | ${undef}`,
      `D0 /${i} | ${name} | Eb,1 | SHIFT_EI:${i} | ${undef}`,
      `D1 /${i} | ${name} | Ev,1 | SHIFT_EI:${i} | ${undef}`,
      `D2 /${i} | ${name} | Eb | SHIFT_ECL:${i} | ${undef}`,
      `D3 /${i} | ${name} | Ev | SHIFT_ECL:${i} | ${undef}`,
    ];
  }),
  ...CONDITIONS.flatMap((cc, i) => [
    `${hex(0x70 + i)} | j${cc} | Jbs | JCC:${i} | f64`,
    `0F ${hex(0x80 + i)} | j${cc} | Jz | JCC:${i} | f64`,
    `0F ${hex(0x90 + i)} | set${cc} | Eb | SETCC:${i} |`,
    `0F ${hex(0x40 + i)} | cmov${cc} | Gv,Ev | CMOVCC:${i} | f:cmov`,
  ]),
  ...BIT_TESTS.flatMap((name, i) => [
    `0F ${hex(0xa3 + i * 8)} | ${name} | Ev,Gv | BT_EG:${i} | ${i ? 'lock ' : ''}u:OF,SF,AF,PF`,
    `0F BA /${i + 4} | ${name} | Ev,Ib | BT_EI:${i} | ${i ? 'lock ' : ''}u:OF,SF,AF,PF`,
  ]),
];

const irregular = `
06 | push es | | PUSH_SEG:0 | i64
07 | pop es  | | POP_SEG:0 | i64
0E | push cs | | PUSH_SEG:1 | i64
16 | push ss | | PUSH_SEG:2 | i64
17 | pop ss  | | POP_SEG:2 | i64 end
1E | push ds | | PUSH_SEG:3 | i64
1F | pop ds  | | POP_SEG:3 | i64
27 | daa | | DAA | i64 u:OF
2F | das | | DAS | i64 u:OF
37 | aaa | | AAA | i64 u:OF,SF,ZF,PF
3F | aas | | AAS | i64 u:OF,SF,ZF,PF
40 +r | inc | Zv | INC_E | i64
48 +r | dec | Zv | DEC_E | i64
50 +r | push | Zv | PUSH_E | d64
58 +r | pop | Zv | POP_E | d64
60 | pusha | | PUSHA | i64
61 | popa | | POPA | i64
62 | bound | Mv,Gv | BOUND | i64
63 | arpl movsxd | Ev,Gv | ARPL_MOVSXD |
68 | push | Iz | PUSH_I | d64
69 | imul | Gv,Ev,Iz | IMUL_GEI | u:SF,ZF,AF,PF
6A | push | Ibs | PUSH_I | d64
6B | imul | Gv,Ev,Ibs | IMUL_GEI | u:SF,ZF,AF,PF
6C | insb | Xb | INS |
6D | ins | Xz | INS |
6E | outsb | Xb | OUTS |
6F | outs | Xz | OUTS |
84 | test | Eb,Gb | TEST_EG | u:AF
85 | test | Ev,Gv | TEST_EG | u:AF
86 | xchg | Eb,Gb | XCHG_EG | lock
87 | xchg | Ev,Gv | XCHG_EG | lock
88 | mov | Eb,Gb | MOV_EG |
89 | mov | Ev,Gv | MOV_EG |
8A | mov | Gb,Eb | MOV_GE |
8B | mov | Gv,Ev | MOV_GE |
8C | mov | Ev,Sw | MOV_ES |
8D | lea | Gv,Mv | LEA |
8E | mov | Sw,Ew | MOV_SE | end
8F /0 | pop | Ev | POP_E | d64
90 +r | xchg nop pause | Zv,Av | XCHG_ZA |
98 | cbw cwde cdqe | Xv | CBW |
99 | cwd cdq cqo | Xv | CWD |
9A | call far | P | CALL_FAR_P | i64 end
9C | pushf | Xv | PUSHF | d64
9D | popf | Xv | POPF | d64 end
9E | sahf | | SAHF |
9F | lahf | | LAHF |
A0 | mov | Ab,Ob | MOV_AO |
A1 | mov | Av,Ov | MOV_AO |
A2 | mov | Ob,Ab | MOV_OA |
A3 | mov | Ov,Av | MOV_OA |
A4 | movsb | Xb | MOVS |
A5 | movs | Xv | MOVS |
A6 | cmpsb | Xb | CMPS |
A7 | cmps | Xv | CMPS |
A8 | test | Ab,Ib | TEST_EI | u:AF
A9 | test | Av,Iz | TEST_EI | u:AF
AA | stosb | Xb | STOS |
AB | stos | Xv | STOS |
AC | lodsb | Xb | LODS |
AD | lods | Xv | LODS |
AE | scasb | Xb | SCAS |
AF | scas | Xv | SCAS |
B0 +r | mov | Zb,Ib | MOV_EI |
B8 +r | mov | Zv,Iiv | MOV_EI |
C2 | ret | Iw | RET_I | f64 end
C3 | ret | | RET | f64 end
C4 | les | Gv,Mv | LOAD_FAR:0 | i64
C5 | lds | Gv,Mv | LOAD_FAR:3 | i64
C6 /0 | mov | Eb,Ib | MOV_EI |
C7 /0 | mov | Ev,Iz | MOV_EI |
C8 | enter | Iwb | ENTER | d64
C9 | leave | | LEAVE | d64
CA | retf | Iw | RETF | end
CB | retf | | RETF | end
CC | int3 | | INT3 | end
CD | int | Ib | INT | end
CE | into | | INTO | i64 end
CF | iret | | IRET | end
D4 | aam | Ib | AAM | i64 u:OF,AF,CF
D5 | aad | Ib | AAD | i64 u:OF,AF,CF
D6 | salc | | SALC | i64
D7 | xlatb | Xb | XLAT |
E0 | loopne | Jbs | LOOP:0 | f64 end
E1 | loope | Jbs | LOOP:1 | f64 end
E2 | loop | Jbs | LOOP:2 | f64 end
E3 | jcxz | Jbs | LOOP:3 | f64 end
E4 | in | Ab,Ib | IN_I | end
E5 | in | Az,Ib | IN_I | end
E6 | out | Ab,Ib | OUT_I | end
E7 | out | Az,Ib | OUT_I | end
E8 | call | Jz | CALL_J | f64 end
E9 | jmp | Jz | JMP_J | f64 end
EA | jmp far | P | JMP_FAR_P | i64 end
EB | jmp | Jbs | JMP_J | f64 end
EC | in | Ab | IN_DX | end
ED | in | Az | IN_DX | end
EE | out | Ab | OUT_DX | end
EF | out | Az | OUT_DX | end
F1 | int1 | | INT1 | end
F4 | hlt | | HLT | end
F5 | cmc | | CMC |
F6 /0 | test | Eb,Ib | TEST_EI | u:AF
F6 /1 | test | Eb,Ib | TEST_EI | u:AF
F6 /2 | not | Eb | NOT_E | lock
F6 /3 | neg | Eb | NEG_E | lock
F6 /4 | mul | Eb | MUL_E | u:SF,ZF,AF,PF
F6 /5 | imul | Eb | IMUL_E | u:SF,ZF,AF,PF
F6 /6 | div | Eb | DIV_E | u:CF,OF,SF,ZF,AF,PF
F6 /7 | idiv | Eb | IDIV_E | u:CF,OF,SF,ZF,AF,PF
F7 /0 | test | Ev,Iz | TEST_EI | u:AF
F7 /1 | test | Ev,Iz | TEST_EI | u:AF
F7 /2 | not | Ev | NOT_E | lock
F7 /3 | neg | Ev | NEG_E | lock
F7 /4 | mul | Ev | MUL_E | u:SF,ZF,AF,PF
F7 /5 | imul | Ev | IMUL_E | u:SF,ZF,AF,PF
F7 /6 | div | Ev | DIV_E | u:CF,OF,SF,ZF,AF,PF
F7 /7 | idiv | Ev | IDIV_E | u:CF,OF,SF,ZF,AF,PF
F8 | clc | | CLC |
F9 | stc | | STC |
FA | cli | | CLI | end
FB | sti | | STI | end
FC | cld | | CLD |
FD | std | | STD |
FE /0 | inc | Eb | INC_E | lock
FE /1 | dec | Eb | DEC_E | lock
FF /0 | inc | Ev | INC_E | lock
FF /1 | dec | Ev | DEC_E | lock
FF /2 | call | Ev | CALL_E | f64 end
FF /3 m | call far | Mv | CALL_FAR_M | end
FF /4 | jmp | Ev | JMP_E | f64 end
FF /5 m | jmp far | Mv | JMP_FAR_M | end
FF /6 | push | Ev | PUSH_E | d64
0F 00 /0 | sldt | Ev | SLDT |
0F 00 /1 | str | Ev | STR |
0F 00 /2 | lldt | Ew | LLDT | end
0F 00 /3 | ltr | Ew | LTR | end
0F 00 /4 | verr | Ew | VERR |
0F 00 /5 | verw | Ew | VERW |
0F 01 /0 m | sgdt | Mv | SGDT |
0F 01 /1 m | sidt | Mv | SIDT |
0F 01 /2 m | lgdt | Mv | LGDT | end
0F 01 /3 m | lidt | Mv | LIDT | end
0F 01 /4 | smsw | Ev | SMSW |
0F 01 /6 | lmsw | Ew | LMSW | end
0F 01 /7 m | invlpg | Mb | INVLPG | end
0F 01 C1 | vmcall | | VMCALL | end
NP 0F 01 CA | clac | | SET_AC:0 | f:smap end
NP 0F 01 CB | stac | | SET_AC:1 | f:smap end
NP 0F 01 EE | rdpkru | | PKRU:0 | f:pku
NP 0F 01 EF | wrpkru | | PKRU:1 | f:pku end
0F 01 D9 | vmmcall | | VMMCALL | end
0F 01 F8 | swapgs | | SWAPGS | o64 end
0F 01 F9 | rdtscp | | RDTSCP | end f:rdtscp
0F 02 | lar | Gv,Ew | LAR |
0F 03 | lsl | Gv,Ew | LSL |
0F 05 | syscall | | SYSCALL | end f:syscall
0F 06 | clts | | CLTS | end
0F 07 | sysret | | SYSRET | end f:syscall
0F 08 | invd | | INVD | end
0F 09 | wbinvd | | WBINVD | end
0F 0B | ud2 | | UD | end
0F 0D | prefetchw | Mb | NOP | f:3dnowprefetch
0F 18 | prefetch nop | Ev | NOP |
0F 19 | nop | Ev | NOP |
0F 1A | nop | Ev | NOP |
0F 1B | nop | Ev | NOP |
0F 1C | nop | Ev | NOP |
0F 1D | nop | Ev | NOP |
0F 1E | nop endbr | Ev | NOP |
0F 1F | nop | Ev | NOP |
0F 20 | mov | Ry,Cy | MOV_RC | f64 end
0F 21 | mov | Ry,Dy | MOV_RD | f64 end
0F 22 | mov | Cy,Ry | MOV_CR | f64 end
0F 23 | mov | Dy,Ry | MOV_DR | f64 end
0F 30 | wrmsr | | WRMSR | end f:msr
0F 31 | rdtsc | | RDTSC | end f:tsc
0F 32 | rdmsr | | RDMSR | end f:msr
0F 34 | sysenter | | SYSENTER | end f:sep
0F 35 | sysexit | | SYSEXIT | end f:sep
0F A0 | push fs | | PUSH_SEG:4 | d64
0F A1 | pop fs | | POP_SEG:4 | d64 end
0F A2 | cpuid | | CPUID | end
0F A4 | shld | Ev,Gv,Ib | SHLD_I | u:AF,OF>1
0F A5 | shld | Ev,Gv | SHLD_CL | u:AF,OF>1
0F A8 | push gs | | PUSH_SEG:5 | d64
0F A9 | pop gs | | POP_SEG:5 | d64 end
0F AC | shrd | Ev,Gv,Ib | SHRD_I | u:AF,OF>1
0F AD | shrd | Ev,Gv | SHRD_CL | u:AF,OF>1
66 0F 38 82 | invpcid | Gy,Mdq | INVPCID | f64 f:invpcid end
NP 0F AE /5 r | lfence | Eb | NOP |
NP 0F AE /6 r | mfence | Eb | NOP |
NP 0F AE /7 r | sfence | Eb | NOP |
NP 0F AE /7 m | clflush | Mb | CLFLUSH | f:clflush
0F AF | imul | Gv,Ev | IMUL_GE | u:SF,ZF,AF,PF
0F B0 | cmpxchg | Eb,Gb | CMPXCHG | lock
0F B1 | cmpxchg | Ev,Gv | CMPXCHG | lock
0F B2 | lss | Gv,Mv | LOAD_FAR:2 | end
0F B4 | lfs | Gv,Mv | LOAD_FAR:4 |
0F B5 | lgs | Gv,Mv | LOAD_FAR:5 |
0F B6 | movzx | Gv,Eb | MOVZX:0 |
0F B7 | movzx | Gv,Ew | MOVZX:1 |
0F B9 | ud1 | Ev,Gv | UD | end
0F BC | bsf | Gv,Ev | BSF | u:CF,OF,SF,AF,PF
0F BD | bsr | Gv,Ev | BSR | u:CF,OF,SF,AF,PF
0F BE | movsx | Gv,Eb | MOVSX:0 |
0F BF | movsx | Gv,Ew | MOVSX:1 |
0F C0 | xadd | Eb,Gb | XADD | lock
0F C1 | xadd | Ev,Gv | XADD | lock
NP 0F C3 | movnti | My,Gy | MOV_EG |
0F C7 /1 m | cmpxchg8b cmpxchg16b | Mv | CMPXCHG8B | lock f:cx8 f:cx16
0F C8 +r | bswap | Zv | BSWAP |
0F FF | ud0 | Ev,Gv | UD | end
`;

export const GENERAL: readonly string[] = [...regular, ...irregular.trim().split('\n')];
