import { describe, expect, it } from 'vitest';
import { formatSchedule, parseSchedule } from '../../../machine/schedule.ts';
import { shrinkSchedule, stepsOf } from './shrink.ts';

const shrunk = (text: string, fails: (order: number[]) => boolean, limit?: number): string =>
  formatSchedule(shrinkSchedule(stepsOf(parseSchedule(text)), fails, limit));

const count = (order: readonly number[], vcpu: number): number => order.filter((index) => index === vcpu).length;

describe('shrinkSchedule', () => {
  it('comes to nothing if anything fails', () => {
    expect(shrunk('0*3,1,2*7,0', () => true)).toBe('');
  });

  it('keeps what the failure needs, in few turns', () => {
    // Three steps of vCPU 1 before the second of vCPU 0.
    const fails = (order: readonly number[]): boolean => {
      const second = order.indexOf(0, order.indexOf(0) + 1);
      return second >= 0 && count(order.slice(0, second), 1) >= 3;
    };
    expect(shrunk('0,1,2,1,2*5,1*4,0*9,2', fails)).toBe('1*3,0*2');
  });

  it('keeps a preemption that it needs', () => {
    const fails = (order: readonly number[]): boolean => /0+1+0/.test(order.filter((index) => index !== 2).join(''));
    expect(shrunk('2*4,0*5,2,1*3,2*2,0*8,1', fails)).toBe('0,1,0');
  });

  it('asks no more often than it may, and gives back what fails', () => {
    let asked = 0;
    const fails = (order: readonly number[]): boolean => {
      asked++;
      return count(order, 0) >= 20;
    };
    const result = shrunk('0*30,1*30,0*30', fails, 5);
    expect(asked).toBe(5);
    expect(count(stepsOf(parseSchedule(result)), 0)).toBeGreaterThanOrEqual(20);
  });

  it('gives back a schedule that does not fail again as it was', () => {
    expect(shrunk('0*3,1*2', () => false)).toBe('0*3,1*2');
  });
});
