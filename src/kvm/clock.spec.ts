import { describe, expect, it } from 'vitest';
import { type HostTimer, VirtualClock } from './clock.ts';
import { FakeState } from './spec-helper.ts';

const timer = (index: number): HostTimer => ({ index, deadline: Number.POSITIVE_INFINITY, expire: () => {} });

describe('time', () => {
  it('is the sum of the steps of the vCPUs that ran, and of what was advanced', () => {
    const clock = new VirtualClock();
    const [first, second] = [0, 1].map((index) => new FakeState(index, new Uint8Array(0))) as [FakeState, FakeState];
    first.steps = 1000;
    expect(clock.now).toBe(0);
    clock.enter(first);
    first.steps += 7;
    expect(clock.now).toBe(7);
    clock.leave();
    first.steps += 100;
    expect(clock.now).toBe(7);
    clock.advance(3);
    clock.enter(second);
    second.steps += 5;
    expect(clock.now).toBe(15);
    clock.leave();
    expect(clock.now).toBe(15);
  });
});

describe('timers', () => {
  it('are due in the order of their deadlines, then of their vCPUs', () => {
    const clock = new VirtualClock();
    const [a, b, c] = [timer(0), timer(1), timer(2)];
    clock.arm(c, 10);
    clock.arm(b, 20);
    clock.arm(a, 10);
    expect(clock.next).toBe(10);
    expect(clock.due()).toBeNull();
    clock.advance(15);
    expect(clock.due()).toBe(a);
    clock.disarm(a);
    expect(clock.due()).toBe(c);
    clock.disarm(c);
    expect(clock.due()).toBeNull();
    expect(clock.next).toBe(20);
  });

  it('can be armed anew and for the past, and disarmed twice', () => {
    const clock = new VirtualClock();
    const a = timer(0);
    clock.advance(100);
    clock.arm(a, 200);
    clock.arm(a, 50);
    expect([clock.next, clock.armed.size, clock.due()]).toEqual([50, 1, a]);
    clock.disarm(a);
    clock.disarm(a);
    expect([clock.next, clock.armed.size, a.deadline]).toEqual([Infinity, 0, Infinity]);
  });

  it('are not armed for times that are never reached', () => {
    const clock = new VirtualClock();
    const a = timer(0);
    clock.arm(a, 2 ** 60);
    expect([clock.next, clock.armed.size]).toEqual([Infinity, 0]);
  });
});
