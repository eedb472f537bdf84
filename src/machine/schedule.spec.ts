import { describe, expect, it } from 'vitest';
import { KvmscopeError } from '../errors.ts';
import { checkSchedule, formatSchedule, parseSchedule, scheduleOf } from './schedule.ts';

describe('the text of a schedule', () => {
  it('names vCPUs and how many steps each makes', () => {
    expect(parseSchedule('0*3,1,0,2*5')).toEqual([
      { vcpu: 0, steps: 3 },
      { vcpu: 1, steps: 1 },
      { vcpu: 0, steps: 1 },
      { vcpu: 2, steps: 5 },
    ]);
    expect(parseSchedule(' 0 * 3 , 1 ')).toEqual(parseSchedule('0*3,1'));
  });

  it('comes back as short as it gets', () => {
    expect(formatSchedule(parseSchedule('0,0*2,1*1,1,0'))).toBe('0*3,1*2,0');
    expect(formatSchedule(scheduleOf([0, 0, 1, 0, 2, 2]))).toBe('0*2,1,0,2*2');
    expect(formatSchedule([])).toBe('');
  });

  it.each([
    ['', 'schedule: "" is neither a vCPU nor vCPU*steps; a schedule is like 0*3,1,0,2*5'],
    ['0,,1', 'schedule: "" is neither a vCPU nor vCPU*steps; a schedule is like 0*3,1,0,2*5'],
    ['0x3', 'schedule: "0x3" is neither a vCPU nor vCPU*steps; a schedule is like 0*3,1,0,2*5'],
    ['1*-2', 'schedule: "1*-2" is neither a vCPU nor vCPU*steps; a schedule is like 0*3,1,0,2*5'],
    ['1*0', 'schedule: vCPU 1 makes a whole number of steps from 1 on, not 0'],
  ])('%s is refused', (text, message) => {
    expect(() => parseSchedule(text)).toThrow(new KvmscopeError('usage', message));
  });

  it('names only vCPUs that exist', () => {
    expect(() => checkSchedule(parseSchedule('0,2'), 2)).toThrow(
      new KvmscopeError('usage', 'schedule: no vCPU 2: the VM has 2, counted from 0'),
    );
  });
});
