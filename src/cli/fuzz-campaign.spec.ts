import { describe, expect, it } from 'vitest';
import { fakeCampaign } from '../lab/fuzz/runner.fixture.ts';
import type { Find } from '../lab/fuzz/types.ts';
import { noPaint } from '../trace/text.ts';
import { ProgressLine } from './fuzz-campaign.ts';

const campaign = { ...fakeCampaign(), kvm: '5.4', against: '5.6' };
const state = (seconds: number, cases: number) => ({
  blocks: 3,
  cases,
  casesNow: cases,
  seconds,
  coverage: 12,
  finds: 1,
});
const find = (signature: string): Find => ({ signature }) as Find;

/** What is written to stderr. */
function written(errIsTerminal: boolean, use: (line: ProgressLine) => void, width = 100): string {
  let text = '';
  const err = (part: string): void => {
    text += part;
  };
  use(new ProgressLine(campaign, 4, { width, paint: noPaint, errIsTerminal, out: () => {}, err }));
  return text;
}

describe('the progress of a campaign', () => {
  it('is a line now and then where nobody looks', () => {
    const text = written(false, (line) => {
      for (const seconds of [0, 1, 9.9, 10, 15, 19.9, 20.1]) line.update(state(seconds, 1000 * seconds));
      line.end();
    });
    expect(text).toMatch(
      /^icr 5\.4 : 5\.6 {2}10 s {2}10,000 cases \(75 %\) {2}1,000\/s {2}coverage 12\/\d+ {2}1 find\nicr .* 20 s {2}20,100 cases [^\n]*\n$/,
    );
  });

  it('is one line that is drawn again where someone looks, and gone at the end', () => {
    const text = written(true, (line) => {
      line.update(state(1, 500));
      line.update(state(2, 1200));
      line.found(find('RAX differs'));
      line.found(find('RAX differs'));
      line.end();
      line.end();
    });
    const parts = text.split('\r\x1b[K');
    expect(parts.map((part) => part.slice(0, 30))).toEqual([
      '',
      'icr 5.4 : 5.6  1 s  500 cases ',
      'icr 5.4 : 5.6  2 s  1,200 case',
      'found: RAX differs\n',
      'icr 5.4 : 5.6  2 s  1,200 case',
      '',
    ]);
  });

  it('is never wider than the terminal', () => {
    const text = written(true, (line) => line.update(state(1, 500)), 40);
    expect(text).toBe('\r\x1b[Kicr 5.4 : 5.6  1 s  500 cases (75 %)  5');
  });
});
