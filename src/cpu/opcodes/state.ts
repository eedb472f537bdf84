/** Rows of the instruction table: images of processor state, FS and GS bases, cache lines, waiting. The grammar is described in ../opcodes.ts. */

const rows = `
NP 0F AE /0 m | fxsave | M | FXSAVE | f:fxsr
NP 0F AE /1 m | fxrstor | M | FXRSTOR | f:fxsr
NP 0F AE /2 m | ldmxcsr | Md | LDMXCSR | sse f:sse
NP 0F AE /3 m | stmxcsr | Md | STMXCSR | sse f:sse
NP 0F AE /4 m | xsave | M | XSAVE:0 | f:xsave
NP 0F AE /5 m | xrstor | M | XRSTOR:0 | f:xsave
NP 0F AE /6 m | xsaveopt | M | XSAVE:1 | f:xsaveopt
NP 0F C7 /3 m | xrstors | M | XRSTOR:1 | f:xsaves
NP 0F C7 /4 m | xsavec | M | XSAVE:2 | f:xsavec
NP 0F C7 /5 m | xsaves | M | XSAVE:3 | f:xsaves
NP 0F 01 D0 | xgetbv | | XGETBV | f:xsave
NP 0F 01 D1 | xsetbv | | XSETBV | end f:xsave
F3 0F AE /0 r | rdfsbase | Ry | RDBASE:4 | o64 f:fsgsbase
F3 0F AE /1 r | rdgsbase | Ry | RDBASE:5 | o64 f:fsgsbase
F3 0F AE /2 r | wrfsbase | Ry | WRBASE:4 | o64 f:fsgsbase
F3 0F AE /3 r | wrgsbase | Ry | WRBASE:5 | o64 f:fsgsbase
66 0F AE /6 m | clwb | Mb | CLFLUSH | f:clwb
66 0F AE /7 m | clflushopt | Mb | CLFLUSH | f:clflushopt
NP 0F 1C /0 m | cldemote | Mb | NOP | f:cldemote
0F 01 FC | clzero | | CLZERO | f:clzero
F3 0F 09 | wbnoinvd | | WBINVD | end f:wbnoinvd
NP 0F 01 E8 | serialize | | SERIALIZE | end f:serialize
NP 0F 01 C8 | monitor | | MONITOR | end f:monitor
NP 0F 01 C9 | mwait | | MWAIT | end f:monitor
0F 33 | rdpmc | | RDPMC | end
0F AA | rsm | | UD | end
`;

export const STATE: readonly string[] = rows.trim().split('\n');
