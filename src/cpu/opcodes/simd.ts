/**
 * Rows of the instruction table: MMX, SSE to SSE4.2 but for floating-point arithmetic, PCLMULQDQ, AES, SHA. The grammar is described in
 * ../opcodes.ts.
 *
 * A handler is an operation; its `sub` says between which operands:
 * 0 = MMX ← MMX, memory of 8 bytes; 1 = XMM ← XMM, memory of 16; 2 = MMX ← MMX, memory of 4; 3 = MMX by immediate; 4 = XMM by immediate;
 * 5, 6, 7 = XMM ← XMM, memory of 8, 4, 2; 8 = as 1, memory
 * aligned on Intel alone. Handlers with other operands number their forms themselves, in core/simd.ts.
 */

const MMX = 'mmx f:mmx';
const SSE = 'sse f:sse';
const SSE2 = 'sse f:sse2';
const SSE3 = 'sse f:pni';
const SSSE3 = 'sse f:ssse3';
const SSE41 = 'sse f:sse4_1';
const SSE42 = 'sse f:sse4_2';
const AES = 'sse f:aes';

/** MMX instructions that have an XMM form in SSE2; `feature` is that of the MMX form. */
const integer = (opcode: string, name: string, feature = 'mmx', operand = 'Qq'): string[] => [
  `NP 0F ${opcode} | ${name} | Pq,${operand} | ${name.toUpperCase()}:${operand === 'Qd' ? 2 : 0} | mmx f:${feature}`,
  `66 0F ${opcode} | ${name} | Vdq,Wdq | ${name.toUpperCase()}:1 | ${SSE2}`,
];
const ssse3 = (opcode: string, name: string): string[] => [
  `NP 0F ${opcode} | ${name} | Pq,Qq${opcode.startsWith('3A') ? ',Ib' : ''} | ${name.toUpperCase()}:0 | mmx f:ssse3`,
  `66 0F ${opcode} | ${name} | Vdq,Wdq${opcode.startsWith('3A') ? ',Ib' : ''} | ${name.toUpperCase()}:1 | ${SSSE3}`,
];
/** Shifts of every element by an immediate. */
const shift = (opcode: string, name: string): string[] => [
  `NP 0F ${opcode} r | ${name} | Nq,Ib | ${name.toUpperCase()}:3 | ${MMX}`,
  `66 0F ${opcode} r | ${name} | Udq,Ib | ${name.toUpperCase()}:4 | ${SSE2}`,
];
const sse = (opcode: string, name: string, attributes: string, operands = 'Vdq,Wdq', sub = 1): string =>
  `66 0F ${opcode} | ${name} | ${operands} | ${name.toUpperCase()}:${sub} | ${attributes}`;
const sha = (opcode: string, name: string, operands = 'Vdq,Wdq'): string =>
  `NP 0F ${opcode} | ${name} | ${operands} | ${name.toUpperCase()}:8 | sse f:sha_ni`;
/** The same bits in SSE and SSE2: the single- and the double-precision mnemonic. */
const bits = (opcode: string, name: string, operands: string, handler: string, attributes = ''): string[] => [
  `NP 0F ${opcode} | ${name}ps | ${operands} | ${handler} | ${SSE} ${attributes}`,
  `66 0F ${opcode} | ${name}pd | ${operands} | ${handler} | ${SSE2} ${attributes}`,
];

const moves = `
NP 0F 6E | movd movq | Pq,Ey | MOVD_PE | ${MMX}
66 0F 6E | movd movq | Vdq,Ey | MOVD_VE | ${SSE2}
NP 0F 7E | movd movq | Ey,Pq | MOVD_EP | ${MMX}
66 0F 7E | movd movq | Ey,Vdq | MOVD_EV | ${SSE2}
NP 0F 6F | movq | Pq,Qq | MOV_VW:0 | ${MMX}
66 0F 6F | movdqa | Vdq,Wdq | MOV_VW:1 | ${SSE2}
F3 0F 6F | movdqu | Vdq,Wdq | MOV_VW:1 | ${SSE2} unaligned
NP 0F 7F | movq | Qq,Pq | MOV_WV:0 | ${MMX}
66 0F 7F | movdqa | Wdq,Vdq | MOV_WV:1 | ${SSE2}
F3 0F 7F | movdqu | Wdq,Vdq | MOV_WV:1 | ${SSE2} unaligned
F3 0F 7E | movq | Vq,Wq | MOVQ:5 | ${SSE2}
66 0F D6 | movq | Wq,Vq | MOV_WV:2 | ${SSE2}
F3 0F D6 r | movq2dq | Vdq,Nq | MOVQ2DQ | mmx ${SSE2}
F2 0F D6 r | movdq2q | Pq,Uq | MOVDQ2Q | mmx ${SSE2}
NP 0F E7 m | movntq | Mq,Pq | MOV_WV:0 | mmx f:sse
66 0F E7 m | movntdq | Mdq,Vdq | MOV_WV:1 | ${SSE2}
66 0F 38 2A m | movntdqa | Vdq,Mdq | MOV_VW:1 | ${SSE41}
F2 0F F0 m | lddqu | Vdq,Mdq | MOV_VW:1 | ${SSE3} unaligned
F3 0F 10 m | movss | Vdq,Md | MOV_VW:6 | ${SSE}
F3 0F 10 r | movss | Vd,Ud | MOVSS:1 | ${SSE}
F3 0F 11 m | movss | Md,Vd | MOV_WV:3 | ${SSE}
F3 0F 11 r | movss | Ud,Vd | MOV_WV:3 | ${SSE}
F2 0F 10 m | movsd | Vdq,Mq | MOV_VW:5 | ${SSE2}
F2 0F 10 r | movsd | Vq,Uq | MOVSD:1 | ${SSE2}
F2 0F 11 m | movsd | Mq,Vq | MOV_WV:4 | ${SSE2}
F2 0F 11 r | movsd | Uq,Vq | MOV_WV:4 | ${SSE2}
NP 0F 12 r | movhlps | Vq,Udq | MOVHLPS:1 | ${SSE}
F3 0F 12 | movsldup | Vdq,Wdq | MOVSLDUP:1 | ${SSE3}
F2 0F 12 | movddup | Vdq,Wq | MOVDDUP:5 | ${SSE3}
NP 0F 16 r | movlhps | Vdq,Uq | MOVLHPS:1 | ${SSE}
F3 0F 16 | movshdup | Vdq,Wdq | MOVSHDUP:1 | ${SSE3}
NP 0F D7 r | pmovmskb | Gd,Nq | MOVMSK:2 | mmx f:sse
66 0F D7 r | pmovmskb | Gd,Udq | MOVMSK:3 | ${SSE2}
NP 0F 50 r | movmskps | Gd,Udq | MOVMSK:0 | ${SSE}
66 0F 50 r | movmskpd | Gd,Udq | MOVMSK:1 | ${SSE2}
NP 0F F7 r | maskmovq | Pq,Nq | MASKMOV:0 | mmx f:sse
66 0F F7 r | maskmovdqu | Vdq,Udq | MASKMOV:1 | ${SSE2}
NP 0F 77 | emms | | EMMS | ${MMX}
`;

const fields = `
NP 0F 70 | pshufw | Pq,Qq,Ib | PSHUFLW:0 | mmx f:sse
66 0F 70 | pshufd | Vdq,Wdq,Ib | PSHUFD:1 | ${SSE2}
F3 0F 70 | pshufhw | Vdq,Wdq,Ib | PSHUFHW:1 | ${SSE2}
F2 0F 70 | pshuflw | Vdq,Wdq,Ib | PSHUFLW:1 | ${SSE2}
NP 0F C6 | shufps | Vdq,Wdq,Ib | SHUFPS:1 | ${SSE}
66 0F C6 | shufpd | Vdq,Wdq,Ib | SHUFPD:1 | ${SSE2}
NP 0F C4 | pinsrw | Pq,Rd/Mw,Ib | PINSR:0 | mmx f:sse
66 0F C4 | pinsrw | Vdq,Rd/Mw,Ib | PINSR:1 | ${SSE2}
66 0F 3A 20 | pinsrb | Vdq,Rd/Mb,Ib | PINSR:2 | ${SSE41}
66 0F 3A 22 | pinsrd pinsrq | Vdq,Ey,Ib | PINSR:3 | ${SSE41}
66 0F 3A 21 m | insertps | Vdq,Md,Ib | INSERTPS:6 | ${SSE41}
66 0F 3A 21 r | insertps | Vdq,Udq,Ib | INSERTPS:1 | ${SSE41}
NP 0F C5 r | pextrw | Gd,Nq,Ib | PEXTR:0 | mmx f:sse
66 0F C5 r | pextrw | Gd,Udq,Ib | PEXTR:1 | ${SSE2}
66 0F 3A 14 | pextrb | Rd/Mb,Vdq,Ib | PEXTR:2 | ${SSE41}
66 0F 3A 15 | pextrw | Rd/Mw,Vdq,Ib | PEXTR:3 | ${SSE41}
66 0F 3A 16 | pextrd pextrq | Ey,Vdq,Ib | PEXTR:4 | ${SSE41}
66 0F 3A 17 | extractps | Rd/Md,Vdq,Ib | PEXTR:5 | ${SSE41}
66 0F 38 17 | ptest | Vdq,Wdq | PTEST | ${SSE41}
66 0F 3A 60 | pcmpestrm | Vdq,Wdq,Ib | PCMPSTR:0 | ${SSE42} unaligned
66 0F 3A 61 | pcmpestri | Vdq,Wdq,Ib | PCMPSTR:1 | ${SSE42} unaligned
66 0F 3A 62 | pcmpistrm | Vdq,Wdq,Ib | PCMPSTR:2 | ${SSE42} unaligned
66 0F 3A 63 | pcmpistri | Vdq,Wdq,Ib | PCMPSTR:3 | ${SSE42} unaligned
`;

const lines = (text: string): string[] => text.trim().split('\n');

export const SIMD: readonly string[] = [
  ...integer('60', 'punpcklbw', 'mmx', 'Qd'),
  ...integer('61', 'punpcklwd', 'mmx', 'Qd'),
  ...integer('62', 'punpckldq', 'mmx', 'Qd'),
  ...integer('63', 'packsswb'),
  ...integer('64', 'pcmpgtb'),
  ...integer('65', 'pcmpgtw'),
  ...integer('66', 'pcmpgtd'),
  ...integer('67', 'packuswb'),
  ...integer('68', 'punpckhbw'),
  ...integer('69', 'punpckhwd'),
  ...integer('6A', 'punpckhdq'),
  ...integer('6B', 'packssdw'),
  sse('6C', 'punpcklqdq', SSE2),
  sse('6D', 'punpckhqdq', SSE2),
  ...integer('74', 'pcmpeqb'),
  ...integer('75', 'pcmpeqw'),
  ...integer('76', 'pcmpeqd'),
  ...integer('D1', 'psrlw'),
  ...integer('D2', 'psrld'),
  ...integer('D3', 'psrlq'),
  ...integer('D4', 'paddq', 'sse2'),
  ...integer('D5', 'pmullw'),
  ...integer('D8', 'psubusb'),
  ...integer('D9', 'psubusw'),
  ...integer('DA', 'pminub', 'sse'),
  ...integer('DB', 'pand'),
  ...integer('DC', 'paddusb'),
  ...integer('DD', 'paddusw'),
  ...integer('DE', 'pmaxub', 'sse'),
  ...integer('DF', 'pandn'),
  ...integer('E0', 'pavgb', 'sse'),
  ...integer('E1', 'psraw'),
  ...integer('E2', 'psrad'),
  ...integer('E3', 'pavgw', 'sse'),
  ...integer('E4', 'pmulhuw', 'sse'),
  ...integer('E5', 'pmulhw'),
  ...integer('E8', 'psubsb'),
  ...integer('E9', 'psubsw'),
  ...integer('EA', 'pminsw', 'sse'),
  ...integer('EB', 'por'),
  ...integer('EC', 'paddsb'),
  ...integer('ED', 'paddsw'),
  ...integer('EE', 'pmaxsw', 'sse'),
  ...integer('EF', 'pxor'),
  ...integer('F1', 'psllw'),
  ...integer('F2', 'pslld'),
  ...integer('F3', 'psllq'),
  ...integer('F4', 'pmuludq', 'sse2'),
  ...integer('F5', 'pmaddwd'),
  ...integer('F6', 'psadbw', 'sse'),
  ...integer('F8', 'psubb'),
  ...integer('F9', 'psubw'),
  ...integer('FA', 'psubd'),
  ...integer('FB', 'psubq', 'sse2'),
  ...integer('FC', 'paddb'),
  ...integer('FD', 'paddw'),
  ...integer('FE', 'paddd'),
  ...shift('71 /2', 'psrlw'),
  ...shift('71 /4', 'psraw'),
  ...shift('71 /6', 'psllw'),
  ...shift('72 /2', 'psrld'),
  ...shift('72 /4', 'psrad'),
  ...shift('72 /6', 'pslld'),
  ...shift('73 /2', 'psrlq'),
  ...shift('73 /6', 'psllq'),
  sse('73 /3 r', 'psrldq', SSE2, 'Udq,Ib', 4),
  sse('73 /7 r', 'pslldq', SSE2, 'Udq,Ib', 4),
  ...ssse3('38 00', 'pshufb'),
  ...ssse3('38 01', 'phaddw'),
  ...ssse3('38 02', 'phaddd'),
  ...ssse3('38 03', 'phaddsw'),
  ...ssse3('38 04', 'pmaddubsw'),
  ...ssse3('38 05', 'phsubw'),
  ...ssse3('38 06', 'phsubd'),
  ...ssse3('38 07', 'phsubsw'),
  ...ssse3('38 08', 'psignb'),
  ...ssse3('38 09', 'psignw'),
  ...ssse3('38 0A', 'psignd'),
  ...ssse3('38 0B', 'pmulhrsw'),
  ...ssse3('38 1C', 'pabsb'),
  ...ssse3('38 1D', 'pabsw'),
  ...ssse3('38 1E', 'pabsd'),
  ...ssse3('3A 0F', 'palignr'),
  sse('38 10', 'pblendvb', SSE41),
  sse('38 14', 'blendvps', SSE41),
  sse('38 15', 'blendvpd', SSE41),
  sse('38 20', 'pmovsxbw', SSE41, 'Vdq,Wq', 5),
  sse('38 21', 'pmovsxbd', SSE41, 'Vdq,Wd', 6),
  sse('38 22', 'pmovsxbq', SSE41, 'Vdq,Ww', 7),
  sse('38 23', 'pmovsxwd', SSE41, 'Vdq,Wq', 5),
  sse('38 24', 'pmovsxwq', SSE41, 'Vdq,Wd', 6),
  sse('38 25', 'pmovsxdq', SSE41, 'Vdq,Wq', 5),
  sse('38 28', 'pmuldq', SSE41),
  sse('38 29', 'pcmpeqq', SSE41),
  sse('38 2B', 'packusdw', SSE41),
  sse('38 30', 'pmovzxbw', SSE41, 'Vdq,Wq', 5),
  sse('38 31', 'pmovzxbd', SSE41, 'Vdq,Wd', 6),
  sse('38 32', 'pmovzxbq', SSE41, 'Vdq,Ww', 7),
  sse('38 33', 'pmovzxwd', SSE41, 'Vdq,Wq', 5),
  sse('38 34', 'pmovzxwq', SSE41, 'Vdq,Wd', 6),
  sse('38 35', 'pmovzxdq', SSE41, 'Vdq,Wq', 5),
  sse('38 37', 'pcmpgtq', SSE42),
  sse('38 38', 'pminsb', SSE41),
  sse('38 39', 'pminsd', SSE41),
  sse('38 3A', 'pminuw', SSE41),
  sse('38 3B', 'pminud', SSE41),
  sse('38 3C', 'pmaxsb', SSE41),
  sse('38 3D', 'pmaxsd', SSE41),
  sse('38 3E', 'pmaxuw', SSE41),
  sse('38 3F', 'pmaxud', SSE41),
  sse('38 40', 'pmulld', SSE41),
  sse('38 41', 'phminposuw', SSE41),
  sse('3A 0C', 'blendps', SSE41, 'Vdq,Wdq,Ib'),
  sse('3A 0D', 'blendpd', SSE41, 'Vdq,Wdq,Ib'),
  sse('3A 0E', 'pblendw', SSE41, 'Vdq,Wdq,Ib'),
  sse('3A 42', 'mpsadbw', SSE41, 'Vdq,Wdq,Ib'),
  sse('3A 44', 'pclmulqdq', 'sse f:pclmulqdq', 'Vdq,Wdq,Ib'),
  sse('38 DB', 'aesimc', AES),
  sse('38 DC', 'aesenc', AES),
  sse('38 DD', 'aesenclast', AES),
  sse('38 DE', 'aesdec', AES),
  sse('38 DF', 'aesdeclast', AES),
  sse('3A DF', 'aeskeygenassist', AES, 'Vdq,Wdq,Ib'),
  sha('38 C8', 'sha1nexte'),
  sha('38 C9', 'sha1msg1'),
  sha('38 CA', 'sha1msg2'),
  sha('38 CB', 'sha256rnds2'),
  sha('38 CC', 'sha256msg1'),
  sha('38 CD', 'sha256msg2'),
  sha('3A CC', 'sha1rnds4', 'Vdq,Wdq,Ib'),
  ...bits('54', 'and', 'Vdq,Wdq', 'PAND:1'),
  ...bits('55', 'andn', 'Vdq,Wdq', 'PANDN:1'),
  ...bits('56', 'or', 'Vdq,Wdq', 'POR:1'),
  ...bits('57', 'xor', 'Vdq,Wdq', 'PXOR:1'),
  ...bits('10', 'movu', 'Vdq,Wdq', 'MOV_VW:1', 'unaligned'),
  ...bits('11', 'movu', 'Wdq,Vdq', 'MOV_WV:1', 'unaligned'),
  ...bits('28', 'mova', 'Vdq,Wdq', 'MOV_VW:1'),
  ...bits('29', 'mova', 'Wdq,Vdq', 'MOV_WV:1'),
  ...bits('2B m', 'movnt', 'Mdq,Vdq', 'MOV_WV:1'),
  ...bits('12 m', 'movl', 'Vq,Mq', 'MOVSD:5'),
  ...bits('13 m', 'movl', 'Mq,Vq', 'MOV_WV:2'),
  ...bits('16 m', 'movh', 'Vdq,Mq', 'MOVLHPS:5'),
  ...bits('17 m', 'movh', 'Mq,Vdq', 'MOV_WV:5'),
  'NP 0F 14 | unpcklps | Vdq,Wdq | PUNPCKLDQ:1 | sse f:sse',
  '66 0F 14 | unpcklpd | Vdq,Wdq | PUNPCKLQDQ:1 | sse f:sse2',
  'NP 0F 15 | unpckhps | Vdq,Wdq | PUNPCKHDQ:1 | sse f:sse',
  '66 0F 15 | unpckhpd | Vdq,Wdq | PUNPCKHQDQ:1 | sse f:sse2',
  ...lines(moves),
  ...lines(fields),
];
