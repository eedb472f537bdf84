/** Rows of the instruction table: integer extensions. The grammar is described in ../opcodes.ts. */

const rows = `
NP 0F 38 F0 | movbe | Gv,Mv | MOVBE_GM | f:movbe
66 0F 38 F0 | movbe | Gv,Mv | MOVBE_GM | f:movbe
NP 0F 38 F1 | movbe | Mv,Gv | MOVBE_MG | f:movbe
66 0F 38 F1 | movbe | Mv,Gv | MOVBE_MG | f:movbe
F2 0F 38 F0 | crc32 | Gd,Eb | CRC32:0 | f:sse4_2
F2 0F 38 F1 | crc32 | Gd,Ev | CRC32:1 | f:sse4_2
F3 0F B8 | popcnt | Gv,Ev | POPCNT | f:popcnt
F3 0F BC | tzcnt | Gv,Ev | TZCNT | f:bmi1 u:OF,SF,AF,PF
F3 0F BD | lzcnt | Gv,Ev | LZCNT | f:abm u:OF,SF,AF,PF
66 0F 38 F6 | adcx | Gy,Ey | ADX:0 | f:adx
F3 0F 38 F6 | adox | Gy,Ey | ADX:1 | f:adx
VEX NP 0F 38 F2 | andn | Gy,By,Ey | ANDN | f:bmi1 u:AF,PF
VEX NP 0F 38 F3 /1 | blsr | By,Ey | BLS:1 | f:bmi1 u:AF,PF
VEX NP 0F 38 F3 /2 | blsmsk | By,Ey | BLS:2 | f:bmi1 u:AF,PF
VEX NP 0F 38 F3 /3 | blsi | By,Ey | BLS:3 | f:bmi1 u:AF,PF
VEX NP 0F 38 F7 | bextr | Gy,Ey,By | BEXTR | f:bmi1 u:SF,AF,PF
VEX NP 0F 38 F5 | bzhi | Gy,Ey,By | BZHI | f:bmi2 u:AF,PF
VEX F3 0F 38 F5 | pext | Gy,By,Ey | PEXT | f:bmi2
VEX F2 0F 38 F5 | pdep | Gy,By,Ey | PDEP | f:bmi2
VEX F2 0F 38 F6 | mulx | Gy,By,Ey | MULX | f:bmi2
VEX 66 0F 38 F7 | shlx | Gy,Ey,By | SHIFT_V:4 | f:bmi2
VEX F2 0F 38 F7 | shrx | Gy,Ey,By | SHIFT_V:5 | f:bmi2
VEX F3 0F 38 F7 | sarx | Gy,Ey,By | SHIFT_V:7 | f:bmi2
VEX F2 0F 3A F0 | rorx | Gy,Ey,Ib | RORX | f:bmi2
NP 0F C7 /6 r | rdrand | Rv | RDRAND | f:rdrand
66 0F C7 /6 r | rdrand | Rv | RDRAND | f:rdrand
NP 0F C7 /7 r | rdseed | Rv | RDRAND | f:rdseed
66 0F C7 /7 r | rdseed | Rv | RDRAND | f:rdseed
F3 0F C7 /7 r | rdpid | Ry | RDPID | f64 f:rdpid
`;

export const BITS: readonly string[] = rows.trim().split('\n');
