/** `kvmscope bench ipi`, its forms of output and its mistakes. The numbers themselves: src/lab/ipi-bench. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { noPaint } from '../../src/trace/text.ts';
import { temporaryFile } from './spawn.ts';

async function bench(...args: string[]) {
  let stdout = '';
  let stderr = '';
  const out = (text: string): void => {
    stdout += text;
  };
  const err = (text: string): void => {
    stderr += text;
  };
  const status = await main(['bench', ...args], { width: 100, paint: noPaint, out, err });
  return { status, stdout, stderr };
}

const SMALL = ['ipi', '--vcpus', '4', '--rounds', '1', '--rows', 'physical * broadcast'];

describe('bench ipi', () => {
  it('prints counts, times and what PV IPI gains', async () => {
    const { status, stdout, stderr } = await bench(...SMALL);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(stdout).toContain('Counts of one round  (1 played, all alike)\n');
    expect(stdout).toMatch(/^physical vanilla broadcast +3 msr_write +3 external_interrupt +3 +3 +0 +3 +0 +0 +3$/m);
    expect(stdout).toMatch(/^physical pv broadcast +1 vmcall /m);
    expect(stdout).toMatch(/^PV IPI {7}physical, broadcast: the driver takes [\d.]+ % longer$/m);
    expect(stdout).not.toContain('figures ');
  });

  it('--costs lists every cost with its source, --speed a rate for each row', async () => {
    const { stdout } = await bench('ipi', '--rounds', '1', '--rows', 'halted 5.5 latency', '--costs', '--speed');
    expect(stdout).toMatch(/^exit\.vmcall {7}1,181 {2}published {2}an exit for a hypercall that does nothing$/m);
    expect(stdout).toMatch(/^deliver +\d+ {2}fitted +one message/m);
    expect(stdout).toMatch(/^Simulated rounds a second .*\nhalted 5\.5 latency +[\d,]+$/m);
  });

  it('--json has rows, costs and the fit, and with --what-if both tables', async () => {
    const one = JSON.parse((await bench(...SMALL, '--json')).stdout);
    expect(Object.keys(one)).toEqual([
      'kvmscope',
      'command',
      'ok',
      'benchmark',
      'vcpus',
      'rounds',
      'costs',
      'rows',
      'boosts',
      'fit',
    ]);
    expect(one.rows[0]).toMatchObject({
      name: 'physical vanilla broadcast',
      counts: { senderExits: { msr_write: 3 } },
    });
    const two = JSON.parse((await bench(...SMALL, '--json', '--what-if', 'apicv=on,exit.vmcall=900')).stdout);
    expect(two.changes).toEqual(['apicv=on', 'exit.vmcall=900']);
    expect(two.base.rows[0].counts.kicks).toBe(3);
    expect(two.changed.rows[0].counts).toMatchObject({ kicks: 0, posted: 3 });
    expect(two.crossovers.map(({ apic }: { apic: string }) => apic)).toEqual(['cluster', 'physical', 'xapic']);
  });

  it('--what-if prints both sides, the exits that differ, and where PV IPI pays', async () => {
    const { stdout } = await bench(...SMALL, '--what-if', 'ipiv=on');
    expect(stdout).toContain('ipiv wants KVM 6.0 or later: both sides are KVM 6.0\n');
    expect(stdout).toContain('    sender 3 msr_write → none; receivers 3 external_interrupt → none\n');
    expect(stdout).toMatch(
      /^physical {2}as it is {2}against vanilla: pays from 1 to 3 targets \(at 3: [\d.]+ % saved\)$/m,
    );
    expect(stdout).toMatch(/^ {10}then {6}against vanilla: never pays \(at 3: [\d.]+ % longer\)$/m);
  });

  it('--what-if of rows that are not there then says so', async () => {
    const { status, stdout } = await bench('ipi', '--rows', 'running 5.5 latency', '--what-if', 'idle=halt');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^running 5\.5 latency +2,113 +-\n {4}this row is not there then$/m);
  });

  it('--csv and --chart: a bar for each figure, with its series in the legend', async () => {
    const path = temporaryFile('chart.svg', '');
    const { stdout } = await bench(...SMALL, '--csv', '--chart', path);
    expect(stdout.trimEnd().split('\n')).toHaveLength(4);
    const svg = readFileSync(path, 'utf8');
    expect(svg).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" /);
    expect(svg).toContain('<title>Time of one broadcast to 3 of 4 vCPUs</title>');
    expect(svg.match(/modelled<\/title>/g)).toHaveLength(3);
    expect(svg).toContain('>modelled, unpublished</text>');
    expect(svg).not.toContain('>published</text>');
  });

  it('--chart of rows that are no broadcasts shows these, in nanoseconds', async () => {
    const path = temporaryFile('normal.svg', '');
    await bench('ipi', '--rounds', '1', '--rows', 'cluster vanilla normal', '--chart', path);
    const svg = readFileSync(path, 'utf8');
    expect(svg).toContain('<title>Time of one round</title>');
    expect([...svg.matchAll(/class="n">([\d,]+)<\/text>/g)].map(([, value]) => value)).toEqual(['0', '2,513', '2,513']);
  });

  it('--chart with --what-if shows both sides', async () => {
    const path = temporaryFile('what-if.svg', '');
    await bench(...SMALL, '--what-if', 'exit.vmcall=900', '--chart', path);
    const svg = readFileSync(path, 'utf8');
    expect(svg).toContain('<title>Time of one broadcast to 3 of 4 vCPUs, and if exit.vmcall=900</title>');
    expect(svg.match(/: as it is<\/title>/g)).toHaveLength(3);
    expect(svg.match(/: then<\/title>/g)).toHaveLength(3);
  });

  it('--chart FILE.png has the pixels of the SVG twice as dense, with text whatever fonts the machine has', async () => {
    const path = temporaryFile('chart.png', '');
    const { status, stderr } = await bench(...SMALL, '--chart', path);
    expect([status, stderr]).toEqual([0, '']);
    const png = readFileSync(path);
    expect(png.subarray(0, 8)).toEqual(Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'));
    expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([1720, 316]);
  });

  it.each<[string[], RegExp]>([
    [['tables'], /^kvmscope: there is no benchmark "tables"; there is: ipi\n$/],
    [['ipi', '--mode', 'walk'], /^kvmscope: there is no mode "walk"; there are: dry-run, /],
    [['ipi', '--rows', 'walk'], /^kvmscope: there is no such row; /],
    [['ipi', '--vcpus', '1'], /^kvmscope: --vcpus must be a whole number from 2 to 255, not 1\n$/],
    [['ipi', '--what-if', 'walk'], /^kvmscope: there is no "walk" to change; /],
    [['ipi', '--what-if', 'constructor=1'], /^kvmscope: there is no "constructor" to change; /],
    [
      ['ipi', '--what-if', ','],
      /^kvmscope: option '--what-if <change>' argument ',' is invalid\. It must name something\.\n$/,
    ],
    [['ipi', '--what-if', 'vcpus=1'], /^kvmscope: what-if vcpus must be a whole number from 2 to 255, not 1\n$/],
    [
      ['ipi', '--what-if', 'apicv=on,ipiv=on'],
      /^kvmscope: what-if: "apicv=on" and "ipiv=on" change the same; give one of them\n$/,
    ],
    [['ipi', '--what-if', 'kick=1,kick=2'], /^kvmscope: what-if: "kick=1" and "kick=2" change the same; /],
    [['ipi', '--speed', '--json'], /^kvmscope: option '--speed' cannot be used with option '--json'\n$/],
    [['ipi', '--csv', '--json'], /^kvmscope: option '--csv' cannot be used with option '--json'\n$/],
    [[...SMALL, '--chart', join('/nowhere', 'chart.svg')], /^kvmscope: --chart: '.*' cannot be written \(ENOENT\)\n$/],
    [
      [...SMALL, '--chart', 'chart.jpg'],
      /^kvmscope: --chart: 'chart\.jpg': the ending decides the format; it must be \.svg or \.png\n$/,
    ],
  ])('%j is one clear line and exit code 2', async (args, message) => {
    const { status, stdout, stderr } = await bench(...args);
    expect(stderr).toMatch(message);
    expect(stdout).toBe('');
    expect(status).toBe(2);
  });
});
