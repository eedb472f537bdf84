import { expect, it } from 'vitest';
import { assemble, listing } from './assembler.ts';

it('shows address, bytes and source, long data in rows, labels on lines of their own', () => {
  const program = assemble('_start: mov eax, 5   # five\nloop:\n  vmcall\n.quad 1, 0x1122334455667788\n.skip 64\n', {
    fileName: 't.S',
  });
  expect(listing(program)).toBe(
    [
      '001000  b8 05 00 00 00           _start: mov eax, 5   # five',
      '                                 loop:',
      '001005  0f 01 c1                 vmcall',
      '001008  01 00 00 00 00 00 00 00  .quad 1, 0x1122334455667788',
      '001010  88 77 66 55 44 33 22 11',
      '001018  00 00 00 00 00 00 00 00  .skip 64',
      '     *  7 rows of 00',
      '',
    ].join('\n'),
  );
});

it('of an image is its bytes', () => {
  const { segments } = assemble('.quad 1, 2\n hlt', { fileName: 't.S' });
  const image = { ...assemble('', { fileName: 't.S' }), segments };
  expect(listing(image)).toBe(
    ['001000  01 00 00 00 00 00 00 00', '001008  02 00 00 00 00 00 00 00', '001010  f4', ''].join('\n'),
  );
});

it('of an empty program is empty', () => {
  expect(listing(assemble('', { fileName: 't.S' }))).toBe('');
});
