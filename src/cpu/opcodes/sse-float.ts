/**
 * Rows of the instruction table: floating-point arithmetic of SSE to SSE4.1. The grammar is described in ../opcodes.ts.
 *
 * Arithmetic has the operand format as `sub`: 0 = PS, 1 = PD, 2 = SS, 3 = SD; for conversions and comparisons see core/sse-float.ts.
 */

const SSE = 'sse f:sse';
const SSE2 = 'sse f:sse2';
const SSE3 = 'sse f:pni';
const SSE41 = 'sse f:sse4_1';

const FORMATS = ['ps', 'pd', 'ss', 'sd'];
const PREFIXES = ['NP', '66', 'F3', 'F2'];

/** Columns of an opcode byte: PS, PD, SS and SD by their mandatory prefixes. */
const formats = (byte: string, name: string, handler: string, indices = [0, 1, 2, 3], immediate = ''): string[] =>
  indices.map((i) => {
    const format = FORMATS[i] as string;
    const feature = format.endsWith('s') ? SSE : SSE2;
    return `${PREFIXES[i]} 0F ${byte} | ${name}${format} | V${format},W${format}${immediate} | ${handler}:${i} | ${feature}`;
  });

const others = `
66 0F 7C | haddpd | Vpd,Wpd | HADDF:1 | ${SSE3}
F2 0F 7C | haddps | Vps,Wps | HADDF:0 | ${SSE3}
66 0F 7D | hsubpd | Vpd,Wpd | HSUBF:1 | ${SSE3}
F2 0F 7D | hsubps | Vps,Wps | HSUBF:0 | ${SSE3}
66 0F D0 | addsubpd | Vpd,Wpd | ADDSUBF:1 | ${SSE3}
F2 0F D0 | addsubps | Vps,Wps | ADDSUBF:0 | ${SSE3}
66 0F 3A 08 | roundps | Vps,Wps,Ib | ROUNDF:0 | ${SSE41}
66 0F 3A 09 | roundpd | Vpd,Wpd,Ib | ROUNDF:1 | ${SSE41}
66 0F 3A 0A | roundss | Vss,Wss,Ib | ROUNDF:2 | ${SSE41}
66 0F 3A 0B | roundsd | Vsd,Wsd,Ib | ROUNDF:3 | ${SSE41}
66 0F 3A 40 | dpps | Vps,Wps,Ib | DPF:0 | ${SSE41}
66 0F 3A 41 | dppd | Vpd,Wpd,Ib | DPF:1 | ${SSE41}
NP 0F 2E | ucomiss | Vss,Wss | COMISF:0 | ${SSE}
66 0F 2E | ucomisd | Vsd,Wsd | COMISF:1 | ${SSE2}
NP 0F 2F | comiss | Vss,Wss | COMISF:2 | ${SSE}
66 0F 2F | comisd | Vsd,Wsd | COMISF:3 | ${SSE2}
NP 0F 5A | cvtps2pd | Vpd,Wq | CVT_VW:0 | ${SSE2}
66 0F 5A | cvtpd2ps | Vps,Wpd | CVT_VW:1 | ${SSE2}
F3 0F 5A | cvtss2sd | Vsd,Wss | CVT_VW:2 | ${SSE2}
F2 0F 5A | cvtsd2ss | Vss,Wsd | CVT_VW:3 | ${SSE2}
NP 0F 5B | cvtdq2ps | Vps,Wdq | CVT_VW:4 | ${SSE2}
66 0F 5B | cvtps2dq | Vdq,Wps | CVT_VW:5 | ${SSE2}
F3 0F 5B | cvttps2dq | Vdq,Wps | CVT_VW:6 | ${SSE2}
F3 0F E6 | cvtdq2pd | Vpd,Wq | CVT_VW:7 | ${SSE2}
F2 0F E6 | cvtpd2dq | Vdq,Wpd | CVT_VW:8 | ${SSE2}
66 0F E6 | cvttpd2dq | Vdq,Wpd | CVT_VW:9 | ${SSE2}
NP 0F 2A | cvtpi2ps | Vps,Qq | CVT_VQ:0 | mmx ${SSE}
66 0F 2A | cvtpi2pd | Vpd,Qq | CVT_VQ:1 | mmx ${SSE2}
F3 0F 2A | cvtsi2ss | Vss,Ey | CVT_VE:0 | ${SSE}
F2 0F 2A | cvtsi2sd | Vsd,Ey | CVT_VE:1 | ${SSE2}
NP 0F 2D | cvtps2pi | Pq,Wq | CVT_PW:0 | mmx ${SSE}
66 0F 2D | cvtpd2pi | Pq,Wpd | CVT_PW:1 | mmx ${SSE2}
NP 0F 2C | cvttps2pi | Pq,Wq | CVT_PW:2 | mmx ${SSE}
66 0F 2C | cvttpd2pi | Pq,Wpd | CVT_PW:3 | mmx ${SSE2}
F3 0F 2D | cvtss2si | Gy,Wss | CVT_GW:0 | ${SSE}
F2 0F 2D | cvtsd2si | Gy,Wsd | CVT_GW:1 | ${SSE2}
F3 0F 2C | cvttss2si | Gy,Wss | CVT_GW:2 | ${SSE}
F2 0F 2C | cvttsd2si | Gy,Wsd | CVT_GW:3 | ${SSE2}
`;

export const SSE_FLOAT: readonly string[] = [
  ...formats('51', 'sqrt', 'SQRTF'),
  // Approximations, whose low bits differ by processor; these are exact to 12 bits.
  ...formats('52', 'rsqrt', 'RSQRTF', [0, 2]),
  ...formats('53', 'rcp', 'RCPF', [0, 2]),
  ...formats('58', 'add', 'ADDF'),
  ...formats('59', 'mul', 'MULF'),
  ...formats('5C', 'sub', 'SUBF'),
  ...formats('5D', 'min', 'MINF'),
  ...formats('5E', 'div', 'DIVF'),
  ...formats('5F', 'max', 'MAXF'),
  ...formats('C2', 'cmp', 'CMPF', [0, 1, 2, 3], ',Ib'),
  ...others.trim().split('\n'),
];
