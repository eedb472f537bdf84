import { expect, it } from 'vitest';
import type { ExitRecord } from '../kvm/types.ts';
import { EVENT_LIMIT, EXIT_LIMIT, Recorder } from './recorder.ts';

const EXIT = { vcpu: 0, name: 'hlt' } as ExitRecord;

it('hands over what it recorded, once', () => {
  const recorder = new Recorder(() => 70);
  recorder.event({ event: 'kvm_inj_nmi', vcpu: 1 });
  recorder.exit(EXIT);
  expect(recorder.take()).toEqual({
    exits: [EXIT],
    trace: [{ event: 'kvm_inj_nmi', vcpu: 1 }],
    times: [71],
    full: false,
  });
  expect(recorder.take()).toEqual({ exits: [], trace: [], times: [], full: false });
});

it('stamps events with the clock, each later than the one before', () => {
  let now = 1000;
  const recorder = new Recorder(() => now);
  const stamp = (): void => recorder.event({ event: 'kvm_inj_nmi', vcpu: 0 });
  stamp();
  stamp();
  now = 5000;
  stamp();
  expect(recorder.take().times).toEqual([1001, 1002, 5003]);
});

it('keeps the first exits and events and says that it dropped the rest', () => {
  const recorder = new Recorder();
  for (let i = 0; i <= EXIT_LIMIT; i++) recorder.exit(EXIT);
  for (let i = 0; i <= EVENT_LIMIT; i++) recorder.event({ event: 'kvm_inj_nmi', vcpu: 1 });
  const { exits, trace, times, full } = recorder.take();
  expect([exits.length, trace.length, times.length, full]).toEqual([EXIT_LIMIT, EVENT_LIMIT, EVENT_LIMIT, true]);
  expect(recorder.full).toBe(false);
});
