import { describe, expect, it } from 'vitest';
import { checkWords, parseOptions, wanted } from './options.ts';

const parse = (line: string) => parseOptions(line.split(' ').filter((word) => word !== ''));

describe('the options of the benchmark', () => {
  it('ask for everything unless told otherwise', () => {
    expect(parse('')).toEqual({
      rounds: 7,
      engines: ['interpreter', 'jit', 'v86', 'libunicorn', 'qemu', 'unicornjs'],
      only: [],
      json: false,
      readme: false,
      against: undefined,
      help: false,
    });
  });

  it('take lists with commas', () => {
    const options = parse('--engines v86,interpreter,v86 --only TLB,vmcall --rounds 3 --json');
    expect(options.engines).toEqual(['v86', 'interpreter']);
    expect(options.only).toEqual(['tlb', 'vmcall']);
    expect(wanted(options, 'tlb', 'TLB misses')).toBe(true);
    expect(wanted(options, 'alu', 'ALU loop')).toBe(false);
  });

  it.each([
    ['--rounds 0', '--rounds must be a whole number from 1 to 1000, not 0'],
    ['--rounds few', '--rounds must be a whole number from 1 to 1000, not few'],
    ['--rounds 1e9', '--rounds must be a whole number from 1 to 1000, not 1e9'],
    ['--engines v68', 'there is no engine \'v68\'; did you mean "v86"?'],
    ['--engines ,', '--engines must list some of interpreter, jit, v86, libunicorn, qemu, unicornjs'],
    ['--only ,', '--only must list words'],
    ['--readme --only alu', '--readme needs a run of everything, without --only and --engines'],
    ['--readme --engines v86', '--readme needs a run of everything, without --only and --engines'],
    ['--against test', "--against: 'test' is no checkout of kvmscope"],
    ['--quick', "Unknown option '--quick'"],
    ['quick', "Unexpected argument 'quick'"],
    ['--rounds', "Option '--rounds <value>' argument missing"],
  ])('%s is one clear line', (line, message) => {
    expect(() => parse(line)).toThrow(expect.objectContaining({ code: 'usage', message }));
  });

  it.each([
    ['exit', "--only: no measurement has 'exit'; there are: alu, tlb, vmcall"],
    ['misses,vmcal,vmcalls', `--only: no measurement has 'vmcalls'; did you mean "vmcall"?`],
  ])('--only %s: a word that is in no name and no title is one clear line', (words, message) => {
    const all = [
      { name: 'alu', title: 'ALU loop' },
      { name: 'tlb', title: 'TLB misses' },
      { name: 'vmcall', title: '`vmcall`, PV IPI to one' },
    ];
    expect(() => checkWords(parse('--only misses,VMCALL'), all)).not.toThrow();
    expect(() => checkWords(parse(`--only ${words}`), all)).toThrow(
      expect.objectContaining({ code: 'usage', message }),
    );
  });
});
