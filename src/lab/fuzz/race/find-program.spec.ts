import { describe, expect, it } from 'vitest';
import { findProgram } from './find-program.ts';

const SOURCE = `# A title: with a colon.
#
# kvm: >=4.19   vcpus: 2   mode: long64
# expect: rax = 3
# seed: 4   schedule: 0*3

    nop             # kvm: no setting
    hlt
`;

describe('findProgram', () => {
  it('replaces settings at the end of the header', () => {
    const settings = { kvm: '6.18', schedule: '1*2' };
    expect(findProgram(SOURCE, { settings, dropped: ['seed'], differences: [] })).toBe(`# A title: with a colon.
#
# vcpus: 2   mode: long64
# expect: rax = 3
# kvm: 6.18   schedule: 1*2
    nop             # kvm: no setting
    hlt
`);
  });

  it('has the values of one side as expectations', () => {
    const differences = [
      { subject: 'vcpu[1].irr', left: '{0x40}', right: '{}' },
      { subject: 'end', left: 'halted', right: 'host-bug' },
    ];
    expect(
      findProgram(SOURCE, { settings: {}, dropped: ['kvm', 'schedule'], differences }),
    ).toBe(`# A title: with a colon.
#
# vcpus: 2   mode: long64
# seed: 4
# expect: vcpu[1].irr = {0x40}
# expect: end = halted
    nop             # kvm: no setting
    hlt
`);
  });

  it('gives a program without header one', () => {
    expect(findProgram('hlt', { settings: { schedule: '0' }, dropped: [], differences: [] })).toBe(
      '# schedule: 0\nhlt',
    );
  });
});
