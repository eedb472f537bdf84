/** Mistakes of a user: one clear line on stderr, no stack trace, exit code 2; of a guest: the reason, exit code 1. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { noPaint } from '../../src/trace/text.ts';
import { kvmscope, LAUNCHER, ROOT, temporaryFile } from './spawn.ts';

const PROGRAM = 'guest/pv-ipi/send-to-three.S';
const NO_STACK = /\n\s+at .*[:(]\d+/;

/** Exit code 2, nothing on stdout, exactly this line on stderr. */
function expectOneLine(args: string[], line: string | RegExp): void {
  const { status, stdout, stderr } = kvmscope(...args);
  expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  if (typeof line === 'string') expect(stderr).toBe(`kvmscope: ${line}\n`);
  else expect(stderr).toMatch(line);
  expect(stdout).toBe('');
  expect(status).toBe(2);
}

describe('arguments that make no sense', () => {
  it.each<[string[], string | RegExp]>([
    [['run', PROGRAM, '--kvm', '3.2'], /^kvmscope: unknown KVM era '3\.2'; known: 4\.19-rc1, .*, 7\.1\n$/],
    [['run', PROGRAM, '--kvm', '6.18,abc'], /^kvmscope: unknown KVM era 'abc'; known: /],
    [['run', PROGRAM, '--vcpus', '0'], '--vcpus must be a whole number from 1 to 4096, not 0'],
    [['run', PROGRAM, '--kvm', ''], "option '--kvm <era>' argument '' is invalid. It must name something."],
    [['test', PROGRAM, '--seed', '4294967296'], '--seed must be a whole number from 0 to 4294967295, not 4294967296'],
    [['run', PROGRAM, '--vcpus', '100000'], '--vcpus must be a whole number from 1 to 4096, not 100000'],
    [
      ['run', PROGRAM, '--vcpus', 'many'],
      "option '--vcpus <n>' argument 'many' is invalid. It must be a whole number (decimal or 0x…).",
    ],
    [
      ['run', PROGRAM, '--seed', 'abc'],
      "option '--seed <n>' argument 'abc' is invalid. It must be a whole number (decimal or 0x…).",
    ],
    [['run', PROGRAM, '--seed', '4294967296'], '--seed must be a whole number from 0 to 4294967295, not 4294967296'],
    [['run', PROGRAM, '--budget', '0'], /^kvmscope: --budget must be a whole number from 1 to \d+ steps, not 0\n$/],
    [['run', PROGRAM, '--memory', '1T'], "--memory: '1T' is not a size such as 16M"],
    [
      ['run', PROGRAM, '--memory', '64K'],
      /^kvmscope: --memory must be a whole number from 1048576 to 2147483648 bytes, not 65536\n$/,
    ],
    [['run', PROGRAM, '--ids', '0-x'], '--ids: "0-x" is not an id or a range of ids such as 64-70'],
    [['run', PROGRAM, '--ids', '0,1,1,2'], /^kvmscope: .*\b1\b.*\n$/],
    [['run', PROGRAM, '--ids', '0,1', '--vcpus', '4'], '2 APIC ids are given for 4 vCPUs'],
    [
      ['run', PROGRAM, '--exit-hypercalls', '12'],
      '--exit-hypercalls must be 0 or 0x1000 (bit 12, MAP_GPA_RANGE), not 12',
    ],
    [
      ['run', PROGRAM, '--vendor', 'via'],
      "option '--vendor <name>' argument 'via' is invalid. Allowed choices are intel, amd.",
    ],
    [['run', PROGRAM, '--trce'], "unknown option '--trce' (Did you mean --trace?)"],
    [['run', PROGRAM, 'another.S'], /^kvmscope: too many arguments for 'run'\. Expected 1 argument but got 2.*\n$/],
    [['run'], "missing required argument 'file'"],
    [['rn'], "unknown command 'rn' (Did you mean run?)"],
    [['cpu', '--lst'], "unknown option '--lst' (Did you mean --list?)"],
    [['cpu', 'all'], /^kvmscope: too many arguments for 'cpu'\. Expected 0 arguments but got 1.*\n$/],
    [['cpu', '--vendor', 'via'], "option '--vendor <name>' argument 'via' is invalid. Allowed choices are intel, amd."],
    [['eras', '3.2'], /^kvmscope: unknown KVM era '3\.2'; known: /],
    [['test', PROGRAM, '--kvm', '3.2'], /^kvmscope: unknown KVM era '3\.2'; known: /],
  ])('%j', (args, line) => {
    expectOneLine(args, line);
  });
});

describe('files that cannot be run', () => {
  it('a missing file, a missing folder, a folder instead of a file', () => {
    expectOneLine(['run', 'guest/nowhere.S'], 'no such file: guest/nowhere.S');
    expectOneLine(['asm', 'guest/nowhere.S'], 'no such file: guest/nowhere.S');
    expectOneLine(['test', 'nowhere'], 'no such file or folder: nowhere');
    expectOneLine(['run', 'guest'], /^kvmscope: guest is a directory.*\n$/);
    expectOneLine(['asm', 'guest'], /^kvmscope: guest is a directory.*\n$/);
  });

  it('a device without end, in every place of a file', () => {
    const line = '/dev/zero has more than 256 MiB, the most that is read of a file: name a smaller one';
    expectOneLine(['run', '/dev/zero'], line);
    expectOneLine(['asm', '/dev/zero'], line);
    expectOneLine(['boot', '/dev/zero'], line);
    expectOneLine(['boot', PROGRAM, '--initrd', '/dev/zero'], line);
    expectOneLine(['replay', '/dev/zero'], line);
    expectOneLine(['fuzz', 'race', '/dev/zero'], line);
    const tree = mkdtempSync(join(tmpdir(), 'kvmscope-'));
    mkdirSync(join(tree, 'x86'));
    const configurations = join(tree, 'x86', 'unittests.cfg');
    symlinkSync('/dev/zero', configurations);
    expectOneLine(['kut', tree], line.replace('/dev/zero', configurations));
  });

  it('a program larger than memory', () => {
    const path = temporaryFile('large.bin', new Uint8Array(3 << 20).fill(0xf4));
    expectOneLine(['run', path, '--memory', '2M'], /^kvmscope: .*0x301000.*\n$/);
  });

  it('a syntax error: every mistake of the file with line, column, source line and caret', () => {
    const path = temporaryFile('bad.S', '    .code64\n_start:\n    movv eax, 1\n    mov eax, [rbx\n    hlt\n');
    const { status, stdout, stderr } = kvmscope('run', path);
    expect(stderr).toContain(`${path}:3:5: error: `);
    expect(stderr).toContain('    movv eax, 1\n');
    expect(stderr).toContain(`${path}:4:`);
    expect(stderr).not.toMatch(NO_STACK);
    expect(stdout).toBe('');
    expect(status).toBe(2);
  });

  it('an unknown register in an expectation, with its line', () => {
    const path = temporaryFile('typo.S', '# A title\n# expect: rxx = 3\n    .code64\n    hlt\n');
    expectOneLine(['run', path], /typo\.S:2: .*"rxx".*\n$/);
  });

  it('a setting that only the machine can judge, with its line and in the words of the header', () => {
    const path = temporaryFile('mask.S', '# A title\n# exit-hypercalls: 12\n    .code64\n    hlt\n');
    const line = `${path}:2: exit-hypercalls must be 0 or 0x1000 (bit 12, MAP_GPA_RANGE), not 12`;
    expectOneLine(['run', path], line);
    expectOneLine(['run', path, '--seed', '2'], line);
    expectOneLine(
      ['run', path, '--exit-hypercalls', '8'],
      '--exit-hypercalls must be 0 or 0x1000 (bit 12, MAP_GPA_RANGE), not 8',
    );
  });

  it('a damaged ELF file', () => {
    const path = temporaryFile('broken.elf', Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0]));
    expectOneLine(['run', path], /^kvmscope: .*broken\.elf.*\n$/);
  });

  it('test reports a program that cannot be opened and goes on', () => {
    const path = temporaryFile('typo.S', '# expect: rxx = 3\n    .code64\n    hlt\n');
    const { status, stdout } = kvmscope('test', path, 'guest/pv-ipi/send-to-three.S', '--kvm', '6.18');
    expect(stdout).toContain('"rxx"');
    expect(stdout).toContain('2 programs: 1 passed, 1 could not be opened');
    expect(status).toBe(1);
  });
});

describe('guests that do not end well', () => {
  it('an endless loop: the budget is used up, with the place', () => {
    const path = temporaryFile('loop.S', '    .code64\n_start:\n    jmp _start\n');
    const { status, stdout, stderr } = kvmscope('run', path, '--budget', '100000');
    expect(stderr).toBe(
      `kvmscope: ${path} on KVM 7.1: the budget of 100,000 steps is used up; still running: vCPU 0 at rip 0x1000 (loop.S:3: jmp _start)\n`,
    );
    expect(stdout).toContain('vCPU 0  running, 64-bit mode');
    expect(status).toBe(1);
  });

  it('a triple fault, with the place', () => {
    const path = temporaryFile(
      'triple.S',
      '    .code64\n_start:\n    lidt [rip+nothing]\n    ud2\nnothing: .word 0\n    .quad 0\n',
    );
    const { status, stderr } = kvmscope('run', path);
    expect(stderr).toMatch(
      /^kvmscope: .*triple\.S on KVM 7\.1: triple fault on vCPU 0 at rip 0x1007 \(triple\.S:4: ud2\)\n$/,
    );
    expect(status).toBe(1);
  });

  it('an expectation that does not hold: expected and actual, exit code 1', () => {
    const path = temporaryFile('wrong.S', '# expect: rax = 4\n    .code64\n    mov eax, 3\n    hlt\n');
    const { status, stdout, stderr } = kvmscope('run', path);
    expect(stdout).toMatch(/✗ rax = 4 .*wrong\.S:1\n\s+expected\s+4\n\s+actual\s+3\n/);
    expect(stderr).toMatch(/wrong\.S on KVM 7\.1: 1 of 1 expectation does not hold\n$/);
    expect(status).toBe(1);
    const tested = kvmscope('test', path, '--kvm', '7.1');
    expect(tested.stdout).toMatch(/expect: rax = 4\n\s+expected\s+4\n\s+actual\s+3\n/);
    expect(tested.status).toBe(1);
  });
});

describe('the world around', () => {
  it('a reader that stops reading ends the process quietly', () => {
    const { status, stdout, stderr } = spawnSync(
      'bash',
      ['-c', `set -o pipefail; "$0" "$1" eras | head -1`, process.execPath, LAUNCHER],
      {
        cwd: ROOT,
        encoding: 'utf8',
      },
    );
    expect(stdout).toBe('KVM versions\n');
    expect(stderr).toBe('');
    expect(status).toBe(0);
  });

  it('a folder without programs is said to be empty', () => {
    const folder = mkdtempSync(join(tmpdir(), 'kvmscope-'));
    const { status, stderr } = kvmscope('test', folder);
    expect(stderr).toBe(`kvmscope: no guest programs under ${folder}\n`);
    expect(status).toBe(2);
  });

  it('a bug of its own is one line that asks for a report; the stack only on request', async () => {
    const run = async (): Promise<string> => {
      let errors = '';
      const status = await main(['eras'], {
        width: 100,
        paint: noPaint,
        out: () => {
          throw new TypeError('boom\nsecond line');
        },
        err: (text) => {
          errors += text;
        },
      });
      expect(status).toBe(70);
      return errors;
    };
    delete process.env.KVMSCOPE_DEBUG;
    expect(await run()).toBe(
      'kvmscope: internal error: boom; please report this with the command that caused it (KVMSCOPE_DEBUG=1 shows where it happened)\n',
    );
    process.env.KVMSCOPE_DEBUG = '1';
    expect(await run()).toMatch(NO_STACK);
    delete process.env.KVMSCOPE_DEBUG;
  });
});
